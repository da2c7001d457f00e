"""Packages of the npm registry: fetched with npm, and read from archives."""

import os
import random
import sys

import pytest

from benchmarks.console import plain_console
from benchmarks.datasets import npm
from benchmarks.datasets.archives import CHUNK
from benchmarks.datasets.errors import DatasetError
from benchmarks.datasets.npm import Package

from .small_archives import cut, write_npm

ONE = Package("scope", "one", "1.2.3", "MIT")
TWO = Package("scope", "two", "4.5.6", "OFL-1.1")
LARGE = random.Random(0).randbytes(CHUNK + 1)  # more than a header may have
EXPECTED = [{"a.json": b"{}", "files/b": LARGE}, {"a.json": b"[]"}]


def read(archives, packages=(ONE, TWO), names=("a.json", "files/b")):
    """What there is beside package.json."""
    found = npm.files(packages, names, archives, plain_console())
    return [{k: v for k, v in files.items() if k != npm.ABOUT} for files in found]


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    for package, files in zip((TWO, ONE), EXPECTED[::-1]):
        write_npm(folder, package, {**files, "other": b"not asked for"})
    return folder


def test_files(archives):
    """In the order of the packages, of a folder or of its files, whole."""
    assert read([archives]) == read(sorted(archives.iterdir())) == EXPECTED
    assert read([archives], [TWO], ["files/b", "a.json"]) == EXPECTED[1:]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda p: write_npm(p.parent, ONE, {}, version="9.9.9") and p.unlink(),
            r"expected @scope/one@1\.2\.3, got version 9\.9\.9 in",
        ),
        (lambda p: p.unlink(), "got no archive of that package"),
        (lambda p: p.write_bytes(cut(p.read_bytes())), "is not a sound npm package"),
        (lambda p: p.write_bytes(b"no archive"), "is not a sound npm package"),
        (
            lambda p: write_npm(p.parent, ONE, {}, license="other"),
            "expected licence MIT, got other",
        ),
        (
            lambda p: write_npm(p.parent, ONE, {"package.json": b"[]"}),
            "package.json is not a JSON object",
        ),
        (
            lambda p: write_npm(p.parent, ONE, {"package.json": b"{"}),
            "package.json is not a JSON object",
        ),
    ],
)
def test_bad_archives(change, message, archives):
    change(archives / "scope-one-1.2.3.tgz")
    with pytest.raises(DatasetError, match=message):
        read([archives])


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="none.tgz does not exist"):
        read([tmp_path / "none.tgz"])


def test_too_large_an_archive(archives, monkeypatch):
    monkeypatch.setattr(npm, "MAX_SIZE", 1000)
    with pytest.raises(DatasetError, match="over 1000 bytes"):
        read([archives])


@pytest.mark.skipif(os.name == "nt", reason="the npm of this test is a Unix script")
@pytest.mark.parametrize(
    "script, message",
    [
        (None, "npm.* is not on PATH"),
        ("sys.exit('no network')", "failed with exit status 1: no network"),
        ("", "should leave one .tgz file, but left 0"),
        ("get('scope-one-1.2.3.tgz')", "expected @scope/two@.* got no archive"),
        ("get(sys.argv[-1][1:].replace('/', '-').replace('@', '-') + '.tgz')", None),
    ],
)
def test_npm(script, message, archives, tmp_path, monkeypatch):
    if script is not None:
        program = tmp_path / "npm"
        program.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n"
            f"def get(name): shutil.copy({str(archives)!r} + '/' + name, '.')\n"
            f"{script}\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if message is None:
        assert read(None) == EXPECTED
    else:
        with pytest.raises(DatasetError, match=message):
            read(None)
