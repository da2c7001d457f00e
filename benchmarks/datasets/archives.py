"""Archives, extracted so that nothing leaves the folder they are meant for."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import Progress

from .errors import DatasetError
from .lists import is_inside

# Python 3.10 and 3.11 have it from some patch release on.
FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
CHUNK = 1 << 20
TOO_LARGE = "a header is too large"
MEMBERS = 1_000_000  # of an archive; the largest of those published has 120,000
REMEDY = "Get it again: it may not have been downloaded whole"


class TarFile(tarfile.TarFile):
    """Python's, which does not take a header of any size into memory.

    Opened by `open(fileobj=...)`, or as compressed.
    """

    def __init__(self, name: Any, mode: Any, fileobj: Any, **kwargs: Any) -> None:
        super().__init__(name, mode, _InPieces(fileobj), **kwargs)


class _InPieces:
    """A file of which no more than CHUNK is read at a time."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"{TOO_LARGE} ({size:,} bytes)")
        data: bytes = self._file.read(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def members(file: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Members, and how large all are until then, headers included.

    Raises:
        tarfile.ReadError: there are more than MEMBERS.
    """
    total = 0
    for number, member in enumerate(file, start=1):
        if number > MEMBERS:
            raise tarfile.ReadError(f"it has more than {MEMBERS:,} members")
        total += member.size + tarfile.BLOCKSIZE
        yield member, total


def extract(archive: Path, folder: Path, progress: Progress) -> None:
    """Extract a tar (compressed or not) or zip file, told apart by its content.

    Raises:
        DatasetError: it is missing, is of another kind or damaged, or has a member that
            is a link or a device, or that would lie outside of `folder`; or there is
            no space for it. Members before may have been written.
    """
    if not archive.is_file():
        raise DatasetError(f"{archive} is not a file", "Name the archive that you have")
    task = progress.add_task(escape(archive.name), total=archive.stat().st_size)
    try:
        # In this order: a tar that ends with a zip would pass as a zip.
        if _is_tar(archive):
            _extract_tar(archive, folder, progress, task)
        elif zipfile.is_zipfile(archive):
            _extract_zip(archive, folder, progress, task)
        else:
            raise DatasetError(
                f"{archive} is neither a tar nor a zip file, or but a part of one",
                REMEDY,
            )
    except DatasetError:
        raise
    except Exception as error:  # each decompressor has its own
        if isinstance(error, OSError) and error.errno is not None:  # a full disk, say
            raise DatasetError(f"{archive} cannot be extracted: {error}") from error
        if isinstance(error, RuntimeError):  # of zipfile: a password, a compression
            raise DatasetError(
                f"{archive} cannot be extracted: {error}",
                "Extract it with another program, and name a tar or zip file of that",
            ) from error
        raise DatasetError(f"{archive} is damaged: {error!r}", REMEDY) from error


def _is_tar(archive: Path) -> bool:
    with archive.open("rb") as raw:
        try:
            TarFile.open(fileobj=raw).close()
        except tarfile.TarError as error:
            if TOO_LARGE in str(error):
                raise
            return False
    return True


def _extract_zip(archive: Path, folder: Path, progress: Progress, task: Any) -> None:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        total = sum(member.file_size for member in infos)
        _refuse_too_large(archive, total, shutil.disk_usage(folder).free)
        progress.update(task, total=total)
        for member in infos:
            mode = stat.S_IFMT(member.external_attr >> 16)
            plain = mode in (0, stat.S_IFREG, stat.S_IFDIR)
            _refuse_unsafe(archive, member.filename, plain)
            file.extract(member, folder)
            progress.advance(task, member.file_size)


def _extract_tar(archive: Path, folder: Path, progress: Progress, task: Any) -> None:
    free = shutil.disk_usage(folder).free
    with archive.open("rb") as raw, TarFile.open(fileobj=raw) as file:
        for member, total in members(file):
            _refuse_too_large(archive, total, free)
            plain = member.isreg() or member.isdir()
            _refuse_unsafe(archive, member.name, plain)
            file.extract(member, folder, **FILTER)
            progress.update(task, completed=raw.tell())
        # A damaged header looks like the end, and only at the end is the checksum.
        while rest := file.fileobj.read(CHUNK):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("there is more after what looks like its end")
        progress.update(task, completed=archive.stat().st_size)


def _refuse_too_large(archive: Path, size: int, free: int) -> None:
    """Before it is written: a small archive can unpack to any size."""
    if size > free:
        raise DatasetError(
            f"{archive} unpacks to {size / 1e9:,.1f} GB or more, and there are "
            f"{free / 1e9:,.1f} GB free",
            "Free some space, if it is the archive that is published",
        )


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    if not is_inside(name) and name.rstrip("/") != ".":
        problem = "would lie outside of the folder"
    elif not plain:
        problem = "is a link or a device"
    else:
        return
    raise DatasetError(
        f"{archive} is not safe to extract: its member {name!r} {problem}",
        "Get it from where it is published",
    )
