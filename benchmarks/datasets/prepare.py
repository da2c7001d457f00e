"""From archives to a data set that can be read, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress

from ..console import plain_console
from ..files import replacing
from .archives import extract
from .cars import Cars196
from .cub import CUB200
from .errors import DatasetError
from .folders import ImageFolders
from .images import ImageFiles
from .inshop import InShop
from .sop import StanfordOnlineProducts

DATASETS: dict[str, type[ImageFiles]] = {
    cls.NAME: cls
    for cls in (CUB200, Cars196, StanfordOnlineProducts, InShop, ImageFolders)
}


def prepare(
    name: str,
    root: Path,
    archives: Sequence[Path] = (),
    annotations: Path | None = None,
    download: bool = False,
    console: Console | None = None,
) -> None:
    """Make the folder of a data set, which is checked before it gets its name.

    Until then it is .<name>.partial beside the root, which one run at a time uses;
    others wait. A root that is whole already is left alone.

    Args:
        name: of DATASETS.
        root: the folder; it may exist if it is empty.
        archives: tar or zip files that have the data set together.
        annotations: cars_annos.mat or cars_annos.txt, or list_eval_partition.txt, where
            no archive has it.
        download: get the archive from where PML gets it, and delete it when done.

    Raises:
        DatasetError: an archive is missing, damaged or of something else, or something
            else is in the root, or there is nothing to download.
    """
    console = console or plain_console()
    if name not in DATASETS:
        raise DatasetError(f"expected one of {', '.join(DATASETS)}, got {name!r}")
    cls = DATASETS[name]
    root = Path(root).resolve()  # a link may lead to another disk
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        _check_existing(cls, root, console)
        return
    if download == bool(archives):
        raise DatasetError(
            "expected archives or to download one, and not both",
            f"Name them ({cls.NEEDS})",
        )
    for path in [*archives, *([] if annotations is None else [annotations])]:
        if path.is_dir() and cls.NAME == "folders":
            raise DatasetError(
                f"{path} is a folder, which needs no preparing",
                f"Use it as it is, dataset.{cls.__name__}.root={path}; with "
                f"dataset.{cls.__name__}.halves=true if its folders are classes",
            )
        if not path.is_file():
            raise DatasetError(f"{path} is not a file", "Name the file that you have")
    root.parent.mkdir(parents=True, exist_ok=True)
    with _alone(root, console):
        if root.exists() and any(root.iterdir()):  # by another, in the meantime
            _check_existing(cls, root, console)
        elif download:
            with _downloaded(cls, root.parent, console) as archive:
                _build(cls, root, [archive], annotations, console)
        else:
            _build(cls, root, archives, annotations, console)


@contextmanager
def _alone(root: Path, console: Console) -> Iterator[None]:
    """One process, or thread, at a time; others wait."""
    lock = FileLock(root.with_name(f".{root.name}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"another process prepares {root}; it is waited for")
        lock.acquire()
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows has no names deleted that are in use
            os.unlink(lock.lock_file)  # filelock sees to it that others notice
        lock.release()


def _check_existing(cls: type[ImageFiles], root: Path, console: Console) -> None:
    try:
        _check(cls, root)
    except DatasetError as error:
        raise DatasetError(
            f"{root} has something in it, and not a whole {cls.__name__}: "
            f"{error.problem}",
            "Move or delete it, or name another root",
        ) from error
    console.print(f"{root} is prepared already", soft_wrap=True, markup=False)


def _check(cls: type[ImageFiles], root: Path) -> str:
    """What is there, in words, if all is."""
    found = {split: cls(root, split) for split in cls.SPLITS if "+" not in split}
    return ", ".join(
        f"{split}: {len(dataset):,} images of {len(set(dataset.labels)):,} classes"
        for split, dataset in found.items()
    )


def _build(
    cls: type[ImageFiles],
    root: Path,
    archives: Sequence[Path],
    annotations: Path | None,
    console: Console,
) -> None:
    work = root.with_name(f".{root.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    try:
        work.mkdir()
        with Progress(console=console) as progress:
            for archive in archives:
                extract(archive, work, progress)
        try:
            found = cls.find(work, annotations)
            summary = _check(cls, found)
        except DatasetError as error:
            problem = error.problem.replace(str(work), "<extracted>")
            raise DatasetError(
                f"{', '.join(map(str, archives))}: not a whole {cls.__name__}: "
                f"{problem}",
                f"Name all that is needed ({cls.NEEDS})",
            ) from error
        if root.exists():
            root.rmdir()  # empty, and no system but Unix renames to a name in use
        os.rename(found, root)
    except OSError as error:
        raise DatasetError(f"{root} cannot be written: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    console.print(f"{root}: {summary}", soft_wrap=True, markup=False)


@contextmanager
def _downloaded(
    cls: type[ImageFiles], folder: Path, console: Console
) -> Iterator[Path]:
    """The archive, downloaded, and deleted unless the caller is interrupted.

    One that an interrupted run, or the user, has left in `folder` is used, and kept.
    """
    url: str | None = getattr(cls, "DOWNLOAD_URL", None)
    name: str | None = getattr(cls, "ARCHIVE", None)
    if url is None or name is None:
        raise DatasetError(
            f"{cls.__name__} cannot be downloaded automatically",
            f"Download it yourself and name it ({cls.NEEDS})",
        )
    target = folder / name
    if target.exists():
        console.print(
            f"{target} is used; delete it to download it", soft_wrap=True, markup=False
        )
        yield target
        return
    console.print(f"{url} is downloaded", soft_wrap=True, markup=False)
    try:
        with replacing(target) as partial:
            torch.hub.download_url_to_file(url, str(partial))
    except Exception as error:  # of the network, of its protocols, of the disk
        raise DatasetError(
            f"{url} cannot be downloaded: {error}",
            f"Download it yourself and name it ({cls.NEEDS})",
        ) from error
    try:
        yield target
    except Exception:  # it may be what is wrong
        target.unlink()
        raise
    target.unlink()
