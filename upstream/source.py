"""PML's source: fetched, unpacked, or a checkout that is there."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from . import KitError
from .build import PML

PROJECT = "pytorch-metric-learning"
VERSION = "2.9.0"
SHA256 = "27a626caf5e2876a0fd666605a78cb67ef7597e25d7a68c18053dd503830701f"

_NOT_SOURCE = (".git", ".venv*", "venv", "__pycache__", "*.pyc", "build", "dist")


def fetch(folder: Path) -> Path:
    """The source distribution in `folder`, by pip unless it is there already.

    Raises:
        KitError: pip cannot get it, or gets another file.
    """
    archive = folder / f"{PROJECT}-{VERSION}.tar.gz"
    if archive.is_file() and _sha256(archive) == SHA256:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
        got = _download(archive.name, Path(scratch))
        if (found := _sha256(got)) != SHA256:
            raise KitError(
                f"{archive.name} from pip must have the SHA-256 {SHA256}, got {found}: "
                "do not use it. Name one that you trust with --source"
            )
        os.replace(got, archive)
    return archive


def _download(name: str, folder: Path) -> Path:
    archive = folder / name
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1"]
    # Not ":all:", which would build setuptools from its source, too.
    what = ["--no-deps", "--no-binary", PROJECT, f"{PROJECT}=={VERSION}"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--dest", str(folder), *what],
        capture_output=True,
        text=True,
    )
    if done.returncode or not archive.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise KitError(f"pip cannot get {name}: {reason}. Name one with --source")
    return archive


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def unpack(source: Path, folder: Path) -> Path:
    """A copy of the source, an archive or a folder, as `folder`.

    Raises:
        KitError: it is neither, is damaged or not safe, or not PML without MemVir.
    """
    if source.is_dir():
        ignore = shutil.ignore_patterns(*_NOT_SOURCE)
        shutil.copytree(source, folder, ignore=ignore, ignore_dangling_symlinks=True)
    elif source.is_file():
        _extract(source, folder)
    else:
        raise KitError(f"{source} is neither a file nor a folder")
    package = folder / "src" / PML
    if not (package / "losses" / "__init__.py").is_file():
        raise KitError(f"{source} is not PML's source: it has no src/{PML}/losses")
    if (package / "losses" / "memvir").exists():
        raise KitError(f"{source} has MemVir already: take one without")
    return folder


def _extract(archive: Path, folder: Path) -> None:
    """Plain files and folders below the archive's one folder, or nothing."""
    beside = folder.with_name(folder.name + ".unpacked")
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    try:
        with tarfile.open(archive) as file:
            _read_to_the_end(file)
            members = file.getmembers()
            for member in members:
                parts = Path(member.name).parts
                if not (member.isreg() or member.isdir()) or (
                    ".." in parts or Path(member.name).is_absolute()
                ):
                    raise KitError(
                        f"{archive} is not safe to unpack: its member {member.name!r} "
                        "is a link, a device or outside of its folder"
                    )
            for member in members:
                file.extract(member, beside, **safe)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise KitError(f"{archive} cannot be unpacked: {error}") from error
    tops = list(beside.iterdir()) if beside.is_dir() else []
    if len(tops) != 1 or not tops[0].is_dir():
        raise KitError(f"{archive} must hold one folder, got {len(tops)} entries")
    tops[0].rename(folder)
    beside.rmdir()


def _read_to_the_end(file: tarfile.TarFile) -> None:
    """tarfile stops before the checksum, with which gzip ends, so damage is missed."""
    stream = file.fileobj
    while stream is not None and stream.read(1 << 20):
        pass
