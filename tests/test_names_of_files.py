"""Names, paths and files as people have them."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("omegaconf", reason="configs are loaded with OmegaConf")

import click  # noqa: E402
import yaml  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.commands.failures import plain_errors  # noqa: E402
from benchmarks.config import ConfigError, load, registry  # noqa: E402
from benchmarks.config.building import build  # noqa: E402
from benchmarks.console import plain_console  # noqa: E402
from benchmarks.datasets.errors import DatasetError  # noqa: E402
from benchmarks.protocol.locks import is_locked, locked  # noqa: E402

from . import tiny  # noqa: E402


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "mine" / "arm.yaml"
    path.parent.mkdir()
    values = {k: v for k, v in tiny.VALUES.items() if k != "experiment_name"}
    path.write_text(yaml.safe_dump(values))
    return path


def test_overlays_with_dots_have_names_of_their_own(config):
    for lr in ("0.01", "0.001"):
        text = f"optimizers~APPLY~3: {{lr: {lr}}}\n"
        (config.parent / f"lr{lr}.yaml").write_text(text)
    names = {
        extra: load(str(config), [extra]).experiment_name
        for extra in ("lr0.01", "lr0.001", str(config.parent / "lr0.001.yaml"))
    }
    assert list(names.values()) == [
        "mine/arm+lr0.01",
        "mine/arm+lr0.001",
        "mine/arm+lr0.001",
    ]


def test_brackets_are_printed(capsys):
    console = plain_console()
    console.print("runs [old] [/b] [red]x")
    console.rule("a [link=x]b")
    printed = capsys.readouterr().out
    assert "runs [old] [/b] [red]x" in printed and "a [link=x]b" in printed


def test_a_run_in_brackets_is_checked(config, monkeypatch):
    monkeypatch.chdir(config.parent)
    name = "experiment_name=mine/a [/b] [lr=1]"
    arguments = ["check", "arm.yaml", name, "--device", "cpu"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "[/b]" in result.output


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "utf-8-sig"])
def test_configs_in_other_encodings(config, encoding):
    config.write_bytes(("# größe\n" + config.read_text()).encode(encoding))
    if encoding == "utf-8-sig":
        assert load(str(config)).seeds == [0]
        return
    with pytest.raises(ConfigError, match="arm.yaml.*(UTF-8|not allowed)"):
        load(str(config))


def test_home_is_found_in_configs_and_options(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    seen = []
    kept = {kind: dict(things) for kind, things in registry._extra.items()}
    monkeypatch.setattr(registry, "_extra", kept)
    registry.register("dataset", lambda root: seen.append(root), "Own")
    build("dataset", {"Own": {"root": "~/data"}}, "dataset")
    assert seen == [f"{tmp_path}/data"]
    arguments = ["data", "verify", "cub200", "--root", "~/cub"]
    output = CliRunner().invoke(main, arguments).output
    assert f"{tmp_path}/cub is not a folder" in "".join(output.split("\n"))


def test_without_fcntl():
    """As on Windows."""
    code = "import sys; sys.modules['fcntl'] = None; import benchmarks.commands.options"
    subprocess.run([sys.executable, "-c", code], check=True)
    text = Path(is_locked.__code__.co_filename).read_text()
    assert "fcntl" not in text


def test_locks(tmp_path, monkeypatch):
    from filelock import FileLock

    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(ConfigError, match="somebody is here"):
            with locked(tmp_path, "somebody is here"):
                pass
    assert not is_locked(tmp_path)

    def none(self):
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", none)
    with pytest.warns(UserWarning, match="without locks"):
        with locked(tmp_path, "x"):
            pass


WORKERS = """Caught DatasetError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "x.py", line 1, in f
benchmarks.datasets.errors.DatasetError: a.png cannot be read
Restore this file
"""


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            "a/b: No space.*Free",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: .*may read"),
        (EOFError("Ran out of input"), "ended too early"),
        (DatasetError(WORKERS), "^a.png cannot be read\nRestore this file$"),
    ],
)
def test_what_a_user_can_put_right_is_a_line(error, said):
    @plain_errors
    def command():
        raise error

    with pytest.raises(click.ClickException, match=f"(?s){said}") as shown:
        command()
    file = io.StringIO()
    shown.value.show(file)
    assert "Traceback" not in file.getvalue() and "Aborted" not in file.getvalue()
