"""Runs in a process of its own, with a patched copy of PML and no pml_memvir.

    python -I -S isolated.py TREE PATHS COMMAND [ARGUMENT ...]

Without `site`, nothing that is installed as editable is there: the path has the tree,
the standard library and PATHS, the folders of installed packages. What else could be
pml_memvir is refused by name; and all modules of PML must be of the tree in the end.
Nothing of the kit is imported here, and only what old versions of Python know is used.
"""

import importlib
import os
import pkgutil
import sys
import unittest

PLUGIN, PML = "pml_memvir", "pytorch_metric_learning"
SUMMARY = "== "  # begins the line that says what a command has found


class Refuse:
    """A finder that finds nothing, and lets nobody else find pml_memvir."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == PLUGIN:
            raise ModuleNotFoundError("%s is not to be used here" % name, name=name)


def importing(tree):
    """Every module of MemVir, each as the first that is imported of PML."""
    package = importlib.import_module(PML + ".losses.memvir")
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    names = [package.__name__] + [module.name for module in found]
    for name in names:
        forget_pml()
        importlib.import_module(name)
    forget_pml()
    import torch

    losses = importlib.import_module(PML + ".losses")
    loss = losses.MemVir(losses.CosFaceLoss(3, 4), num_steps=1, step_gap=0)
    loss(torch.randn(2, 4), torch.tensor([0, 1]))
    print(SUMMARY + "%d modules" % len(names))


def tests(tree, *names):
    """Tests by name, at least one of which must not be skipped."""
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    if not result.wasSuccessful() or result.testsRun <= len(result.skipped):
        sys.exit("not all tests have passed")
    print(SUMMARY + "%d tests" % (result.testsRun - len(result.skipped)))


def script(tree, path):
    """A file of Python."""
    with open(path) as stream:
        exec(compile(stream.read(), path, "exec"), {"__name__": "__main__"})


def forget_pml():
    for name in [n for n in sys.modules if n.partition(".")[0] == PML]:
        del sys.modules[name]


def refuse_strangers(tree):
    """Exit unless PML is that of the tree, and there is no pml_memvir."""
    try:
        importlib.import_module(PLUGIN)
    except ModuleNotFoundError:
        pass
    else:
        sys.exit("%s can be imported" % PLUGIN)
    source = os.path.join(os.path.realpath(tree), "src", PML)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PLUGIN:
            sys.exit("%s has been imported" % name)
        file = getattr(module, "__file__", None) or source
        if name.partition(".")[0] == PML:
            if not os.path.realpath(file).startswith(source):
                sys.exit("%s is not of the tree: %s" % (name, file))


def main():
    tree, paths, command = sys.argv[1:4]
    commands = {f.__name__: f for f in (importing, tests, script)}
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path = [p for p in sys.path if os.path.realpath(p) != os.path.realpath(here)]
    sys.path[:0] = [os.path.join(tree, "src"), tree]
    sys.path += paths.split(os.pathsep)
    sys.meta_path.insert(0, Refuse)
    refuse_strangers(tree)
    commands[command](tree, *sys.argv[4:])
    refuse_strangers(tree)


if __name__ == "__main__":
    main()
