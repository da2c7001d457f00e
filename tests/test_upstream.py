"""The patch for PML itself: it applies, works without pml_memvir, and passes checks.

PML's source distribution is got by pip, once, or named by PML_SDIST.
"""

import bz2
import gzip
import hashlib
import inspect
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import redirect_stdout
from pathlib import Path

import pytest

for tool in ("black", "isort", "flake8"):
    pytest.importorskip(tool, reason=f"the patch is checked with {tool}")
if shutil.which("git") is None:
    pytest.skip("the patch is made with git", allow_module_level=True)

import torch  # noqa: E402
from pytorch_metric_learning import losses  # noqa: E402

from pml_memvir.pml import basic  # noqa: E402
from upstream import KitError  # noqa: E402
from upstream import patch, source  # noqa: E402
from upstream.__main__ import main  # noqa: E402
from upstream.build import MODULES, build, within_pml  # noqa: E402
from upstream.checks import isolated, supply_test_packages  # noqa: E402

ROOT = Path(__file__).parent.parent
MEMVIR = "src/pytorch_metric_learning/losses/memvir"


@pytest.fixture(scope="module")
def sdist():
    if "PML_SDIST" in os.environ:
        return Path(os.environ["PML_SDIST"])
    try:
        return source.fetch(ROOT / "output" / "upstream")
    except KitError as error:
        if "pip cannot get" not in str(error):
            raise
        pytest.skip(str(error))


def run(*arguments):
    printed = io.StringIO()
    with redirect_stdout(printed):
        status = main([str(argument) for argument in arguments])
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def kit(sdist, tmp_path_factory):
    """The folder that it writes, and what it says."""
    output = tmp_path_factory.mktemp("kit")
    status, printed = run("--source", sdist, "--output", output)
    assert status == 0, printed
    return output, printed


@pytest.fixture(scope="module")
def tree(kit, sdist, tmp_path_factory):
    """A patched copy of PML."""
    folder = source.unpack(sdist, tmp_path_factory.mktemp("patched") / "tree")
    patch.apply(kit[0] / "memvir.patch", folder)
    supply_test_packages(folder)
    return folder


def test_all_checks_pass(kit):
    checks = ["import", "tests", "example", "black", "isort", "flake8"]
    assert re.findall(r"^(\w+) +passed", kit[1], flags=re.M) == checks
    assert (
        int(re.search(r"(\d+) tests$", kit[1], flags=re.M)[1]) >= 8
    )  # 3.12.1 counts no skipped one


def test_the_patch_is_small_and_free_of_the_plugin(kit):
    text = (kit[0] / "memvir.patch").read_text()
    assert not re.search(r"pml_memvir|type: ignore|\bPML\b", text)
    files = set(re.findall(r"^\+\+\+ b/(\S+)", text, flags=re.M))
    new = {f"{MEMVIR}/{name}" for name in ("__init__.py", *MODULES.values())}
    page = (ROOT / "upstream" / "README.md").read_text()
    assert new < files and all(Path(file).name in page for file in files)
    added = {
        file: len(re.findall(r"^\+(?!\+\+ )", part, flags=re.M))
        for file, part in zip(
            re.findall(r"^diff --git a/(\S+)", text, flags=re.M),
            text.split("diff --git ")[1:],
        )
    }
    documentation = (kit[0] / "losses.part.md").read_text().count("\n")
    assert added.keys() == files and len(new) <= 5
    assert sum(lines for file, lines in added.items() if "src" in file) <= 900
    assert sum(added.values()) + documentation <= 1500


def test_the_other_program_applies_it_too(kit, sdist, tmp_path):
    if shutil.which("patch") is None:
        pytest.skip("there is no program patch")
    folder = source.unpack(sdist, tmp_path / "tree")
    with open(kit[0] / "memvir.patch") as text:
        subprocess.run(["patch", "-p1", "--quiet"], stdin=text, cwd=folder, check=True)
    assert (folder / MEMVIR / "memvir.py").is_file()


RESUME = """
import torch
from pytorch_metric_learning import losses

makers = {{
    "CosFaceLoss": lambda: losses.CosFaceLoss(5, 6),
    "ProxyAnchorLoss": lambda: losses.ProxyAnchorLoss(5, 6),
    "P2SGradLoss": lambda: losses.P2SGradLoss(6, 5),
}}
saved = torch.load({path!r}, weights_only=True)
for name, (state, batches) in saved.items():
    loss = losses.MemVir(makers[name]().double(), num_steps=2, step_gap=1)
    loss.load_state_dict(state)
    for embeddings, labels, value, gradient in batches:
        embeddings.requires_grad_()
        found = loss(embeddings, labels)
        found.backward()
        assert torch.equal(found.detach(), value), name
        assert torch.equal(embeddings.grad, gradient), name
    assert loss.num_virtual_steps == 2
"""


def test_a_training_goes_on_in_pml_to_the_last_bit(tree, tmp_path):
    """With a checkpoint of the plugin's; so the numbers of both are the same."""
    saved = {}
    torch.manual_seed(0)
    for inner in (
        losses.CosFaceLoss(5, 6),
        losses.ProxyAnchorLoss(5, 6),
        losses.P2SGradLoss(6, 5),
    ):
        memvir = basic.MemVir(inner.double(), num_steps=2, step_gap=1)
        batches = []
        for step in range(12):
            embeddings = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
            labels = torch.randint(5, (4,))
            if step == 7:
                path = tmp_path / "state.pth"
                torch.save(memvir.state_dict(), path)  # a copy
                state = torch.load(path, weights_only=True)
            value = memvir(embeddings, labels)
            value.backward()
            if step >= 7:
                batch = (embeddings.detach(), labels, value.detach(), embeddings.grad)
                batches.append(batch)
        saved[type(inner).__name__] = (state, batches)
    path = tmp_path / "saved.pth"
    torch.save(saved, path)
    script = tmp_path / "resume.py"
    script.write_text(RESUME.format(path=str(path)))
    result = isolated("resume", tree, "script", str(script))
    assert result.passed, result.output


def test_checks_find_faults(tree, tmp_path, monkeypatch):
    """Virtual rows that forget what was kept, and a module that needs the plugin."""
    broken = tmp_path / "tree"
    shutil.copytree(tree, broken)
    path, inner = (broken / MEMVIR / n for n in ("virtual_classes.py", "inner.py"))
    text = path.read_text()
    wrong = text.replace("torch.stack([now, *kept]).logsumexp(dim=0)", "now")
    assert wrong != text
    path.write_text(wrong)
    with open(inner, "a") as file:
        file.write("\n\ntry:\n    import pml_memvir\nexcept ImportError:\n    raise\n")
    imports = isolated("import", broken, "importing")
    assert not imports.passed and "not to be used here" in imports.output
    inner.write_bytes((tree / MEMVIR / inner.name).read_bytes())
    monkeypatch.setenv("TEST_DTYPES", "float64")
    name = "tests.losses.test_memvir.TestMemVir.test_against_naive_implementation"
    tests = isolated("tests", broken, "tests", name)
    assert not tests.passed
    failed = set(re.findall(r"^FAIL: .*loss='(\w+)'", tests.output, flags=re.M))
    assert {"ArcFaceLoss", "SoftTripleLoss"} <= failed
    assert "P2SGradLoss" not in failed


CONTENTS = """### Base Classes, Mixins, and Wrappers
| Name | Reference Papers |
|---|---|
| [**CrossBatchMemory**](page/losses/#crossbatchmemory) | [Paper](link)
| [**GenericPairLoss**](page/losses/#genericpairloss) |
| [**MultipleLosses**](page/losses/#multiplelosses) |
| [**BaseDistance**](page/distances/#basedistance) |
"""
PAGE = (
    "# Losses\n\n## ArcFaceLoss \nWords\n\n## MarginLoss\nWords\n\n\n## NCALoss\nWords"
)


def test_documentation_of_a_checkout(sdist, tmp_path):
    checkout = source.unpack(sdist, tmp_path / "checkout")
    (checkout / "CONTENTS.md").write_text(CONTENTS)
    (checkout / "docs").mkdir()
    (checkout / "docs" / "losses.md").write_text(PAGE)
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    output = tmp_path / "output"
    status, printed = run("--source", checkout, "--output", output, "--no-check")
    assert status == 0 and [path.name for path in output.iterdir()] == ["memvir.patch"]
    after = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert before == after
    patch.apply(output / "memvir.patch", checkout)

    old, new = CONTENTS.splitlines(), (checkout / "CONTENTS.md").read_text()
    (row,) = set(new.splitlines()) - set(old)
    assert new.splitlines() == [*old[:5], row, *old[5:]]
    assert row.startswith("| [**MemVir**](page/losses/#memvir) | [Learning with Memory")
    page = (checkout / "docs" / "losses.md").read_text()
    titles = re.findall(r"^## (\w+)", page, flags=re.M)
    assert titles == ["ArcFaceLoss", "MarginLoss", "MemVir", "NCALoss"]
    section = page[page.index("## MemVir") : page.index("## NCALoss")]
    parameters = inspect.signature(basic.MemVir.__init__).parameters
    for name in set(parameters) - {"self", "kwargs"}:
        assert f"* **{name}**: " in section, name
    called = ", ".join(str(p).partition(":")[0] for p in parameters.values())
    called = called.replace("self, ", "").replace("warmup_steps", "warmup_steps=0")
    assert f"losses.MemVir({called})" in section
    for name in basic.MemVir.supported_losses():
        if hasattr(losses, name):
            assert f"    - [{name}](losses.md#{name.lower()})" in section
    assert PAGE.startswith(page[: page.index("## MemVir")].rstrip())


def test_documentation_without_a_checkout(kit):
    row = (kit[0] / "CONTENTS.part.md").read_text()
    section = (kit[0] / "losses.part.md").read_text()
    assert "behind GenericPairLoss" in row and "/losses/#memvir) |" in row
    assert "docs/losses.md, behind MarginLoss" in section and "## MemVir" in section


def archive(path, *names, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../out"
            file.addfile(member)
    return path


@pytest.mark.parametrize(
    "names, kind, message",
    [
        (["pml/setup.py", "pml/../../out"], tarfile.REGTYPE, "not safe to unpack"),
        (["/out"], tarfile.REGTYPE, "not safe to unpack"),
        (["pml/link"], tarfile.SYMTYPE, "not safe to unpack"),
        (["pml/setup.py", "other"], tarfile.REGTYPE, "must hold one folder"),
        (["pml/setup.py"], tarfile.REGTYPE, "is not PML's source"),
    ],
)
def test_archives_that_are_refused(names, kind, message, tmp_path):
    path = archive(tmp_path / "pml.tar.gz", *names, kind=kind)
    with pytest.raises(KitError, match=message):
        source.unpack(path, tmp_path / "deep" / "folder")
    assert not (tmp_path / "out").exists() and not Path("/out").exists()


@pytest.mark.parametrize("packed_by", [gzip, lzma, bz2])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9, 1])
def test_damaged_archives_are_refused(sdist, place, packed_by, tmp_path):
    """With one bit changed: in the middle, or in the checksum that gzip ends with."""
    tar = gzip.decompress(sdist.read_bytes())
    content = bytearray(packed_by.compress(tar))
    content[min(int(place * len(content)), len(content) - 6)] ^= 1
    path = tmp_path / "pml.tar"
    path.write_bytes(content)
    with pytest.raises(KitError, match="cannot be unpacked"):
        source.unpack(path, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_known_distribution_is_fetched(tmp_path, monkeypatch):
    known, served = b"what is known", [b"another", b"what is known"]

    def pip(command, **options):
        folder = Path(command[command.index("--dest") + 1])
        (folder / archive.name).write_bytes(served.pop(0))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(source.subprocess, "run", pip)
    monkeypatch.setattr(source, "SHA256", hashlib.sha256(known).hexdigest())
    archive = tmp_path / f"{source.PROJECT}-{source.VERSION}.tar.gz"
    archive.write_bytes(b"what lay there")
    with pytest.raises(KitError, match="must have the SHA-256"):
        source.fetch(tmp_path)
    assert archive.read_bytes() == b"what lay there"
    for _ in range(2):  # pip has nothing left for a third time
        assert source.fetch(tmp_path).read_bytes() == known
    assert list(tmp_path.iterdir()) == [archive] and not served


def test_refusals_of_the_command(tree, tmp_path, capsys, monkeypatch):
    (tmp_path / "damaged.tar.gz").write_bytes(b"\x1f\x8b nothing")
    assert main(["--source", str(tmp_path / "damaged.tar.gz")]) == 2
    assert "cannot be unpacked" in capsys.readouterr().err
    assert main(["--source", str(tree)]) == 2
    assert "has MemVir already" in capsys.readouterr().err
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert main(["--output", str(tmp_path / "none")]) == 2
    assert "Name one with --source" in capsys.readouterr().err


def test_it_stops_where_the_plugin_or_pml_has_changed(sdist, tmp_path):
    folder = source.unpack(sdist, tmp_path / "pml")
    for line in (
        "from pytorch_metric_learning import losses",
        "from pytorch_metric_learning.losses import ArcFaceLoss",
        "import pytorch_metric_learning.losses.arcface_loss",
        "from pml_memvir.core import values",
        "if True:\n    from ..core import values",
        "from .kernels import KERNELS",
        "from . import plan",
    ):
        with pytest.raises(KitError, match="x.py may not have"):
            within_pml(f"import torch\n{line}\n", "x.py")
    (folder / "src" / "pytorch_metric_learning" / "losses" / "__init__.py").unlink()
    with pytest.raises(KitError, match="PML's source has no"):
        build(folder)
