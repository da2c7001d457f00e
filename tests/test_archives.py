"""Archives are unpacked whole or not at all, and nothing outside their folder."""

import gzip
import os
import shutil
import tarfile
import threading
import tracemalloc
import zipfile

import pytest

from benchmarks.datasets import archives
from benchmarks.datasets import prepare as module
from benchmarks.datasets.cub import CUB200
from benchmarks.datasets.errors import DatasetError
from benchmarks.datasets.prepare import prepare

from . import small_archives as small


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("write", [small.write_tar, small.write_zip])
@pytest.mark.parametrize(
    "damage", [small.cut, flip, lambda data: b"<html>Sign in</html>"]
)
def test_damaged_archive(write, damage, tmp_path, small_counts, console):
    archive = write(tmp_path / "CUB.tgz", small.cub())
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DatasetError, match="CUB.tgz is (damaged|neither a tar nor)"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)
    assert os.listdir(tmp_path) == ["CUB.tgz"]


@pytest.mark.parametrize(
    "offset, value, message",
    [(6, 1, "is encrypted, password required"), (8, 9, "compression method is not")],
)
def test_zip_that_another_program_extracts(offset, value, message, tmp_path, console):
    archive = small.write_zip(tmp_path / "sop.zip", small.sop())
    content = bytearray(archive.read_bytes())
    for entry, at in ((b"PK\3\4", offset), (b"PK\1\2", offset + 2)):
        content[content.index(entry) + at] = value
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=f"(?s){message}.*with another program"):
        prepare("sop", tmp_path / "sop", [archive], console=console)
    assert os.listdir(tmp_path) == ["sop.zip"]


def test_damaged_header_is_not_the_end(tmp_path, console):
    archive = small.write_tar(tmp_path / "CUB.tgz", small.cub())
    with tarfile.open(archive) as file:
        offset = file.getmembers()[3].offset
        file.fileobj.seek(0)
        content = bytearray(file.fileobj.read())
    content[offset] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match="CUB.tgz is damaged"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)


def with_link(path, target):
    info = tarfile.TarInfo("CUB_200_2011/link")
    info.type, info.linkname = tarfile.SYMTYPE, target
    with tarfile.open(path, "w") as file:
        file.addfile(info)
    return path


def with_link_in_zip(path, target):
    info = zipfile.ZipInfo("CUB_200_2011/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(info, target)
    return path


@pytest.mark.parametrize(
    ("write", "content"),
    [
        (small.write_tar, {"a.txt": b"", "CUB_200_2011/../../evil": b"x"}),
        (small.write_zip, {"a.txt": b"", "CUB_200_2011/../../evil": b"x"}),
        (small.write_tar, {"/tmp/pml-memvir-evil": b"x"}),
        (small.write_zip, {"/tmp/pml-memvir-evil": b"x"}),
        (small.write_zip, {"..\\evil": b"x"}),
        (with_link, "../.."),
        (with_link_in_zip, "../.."),
    ],
)
def test_unsafe_archive(write, content, tmp_path, console):
    archive = write(tmp_path / "archive", content)
    with pytest.raises(DatasetError, match="not safe to extract: its member .*(ev|li)"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)
    assert os.listdir(tmp_path) == ["archive"]
    assert not os.path.exists("/tmp/pml-memvir-evil")


def test_archive_of_something_else(tmp_path, small_counts, console):
    archive = small.write_zip(tmp_path / "sop.zip", small.sop())
    with pytest.raises(DatasetError, match="sop.zip: not a whole CUB200"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)
    members = small.cub()
    del members["CUB_200_2011/images/200.Finch/Finch_0008.jpg"]
    archive = small.write_zip(tmp_path / "some.zip", members)
    with pytest.raises(DatasetError, match="1 of 4 images do not exist: <extracted>"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)
    assert sorted(os.listdir(tmp_path)) == ["some.zip", "sop.zip"]


@pytest.mark.parametrize("killed", [False, True])
def test_interrupted(killed, tmp_path, small_counts, console, monkeypatch):
    archive = small.write_tar(tmp_path / "CUB.tgz", small.cub())
    root = tmp_path / "cub"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupt)
        if killed:  # nothing is tidied up
            patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            prepare("cub200", root, [archive], console=console)
    left = {"CUB.tgz", ".cub.partial"} if killed else {"CUB.tgz"}
    assert set(os.listdir(tmp_path)) == left
    if killed:
        (tmp_path / ".cub.partial/half").touch()
    prepare("cub200", root, [archive], console=console)
    assert set(os.listdir(tmp_path)) == {"CUB.tgz", "cub"}
    assert set(os.listdir(root)) == {"CUB_200_2011", "attributes.txt"}


def test_what_is_in_the_root_is_left_alone(cub, tmp_path, console):
    prepare("cub200", cub, [tmp_path / "none.tgz"], console=console)
    assert "is prepared already" in console.file.getvalue()
    (cub / "CUB_200_2011/images.txt").unlink()
    with pytest.raises(DatasetError, match="has something in it, .* has no .*images"):
        prepare("cub200", cub, [tmp_path / "none.tgz"], console=console)
    assert (cub / "CUB_200_2011/image_class_labels.txt").exists()


def test_bad_requests(tmp_path, console):
    for arguments, message in [
        (("birds", tmp_path / "a"), "expected one of cub200, .*got 'birds'"),
        (("cub200", tmp_path / "a"), "archives or to download one"),
        (("cub200", tmp_path / "a", [tmp_path / "b.tgz"]), "b.tgz is not a file"),
        (("folders", tmp_path / "a", [tmp_path]), "is a folder, which needs no"),
        (("inshop", tmp_path / "a", [], None, True), "cannot be downloaded autom"),
    ]:
        with pytest.raises(DatasetError, match=message):
            prepare(*arguments, console=console)
    assert os.listdir(tmp_path) == []


def test_download(tmp_path, small_counts, console, monkeypatch):
    archive = small.write_tar(tmp_path / "published", small.cub())
    root = tmp_path / "data" / "cub"
    monkeypatch.setattr(CUB200, "DOWNLOAD_URL", (tmp_path / "none").as_uri())
    with pytest.raises(DatasetError, match="(?s)cannot be downloaded.*name it"):
        prepare("cub200", root, download=True, console=console)
    monkeypatch.setattr(CUB200, "DOWNLOAD_URL", archive.as_uri())
    whole = archive.read_bytes()
    archive.write_bytes(small.cut(whole))
    with pytest.raises(DatasetError, match="CUB_200_2011.tgz is damaged"):
        prepare("cub200", root, download=True, console=console)
    assert os.listdir(root.parent) == []
    archive.write_bytes(whole)
    prepare("cub200", root, download=True, console=console)
    assert os.listdir(root.parent) == ["cub"] and len(CUB200(root, "test")) == 4


@pytest.mark.parametrize("write", [small.write_tar, small.write_zip])
def test_what_does_not_fit_on_the_disk_is_not_begun(
    write, tmp_path, small_counts, console, monkeypatch
):
    """Whatever the archive's own size: a bomb is small."""
    archive = write(tmp_path / "CUB.tgz", small.cub())
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match="unpacks to .* GB or more, and there are"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)
    assert os.listdir(tmp_path) == ["CUB.tgz"]


def with_header(path, size):
    """A name of so many zeros, in a header of its own kind, compressed."""
    info = tarfile.TarInfo("CUB_200_2011/x")
    info.type, info.size = tarfile.XHDTYPE, size
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf())
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return path


def test_a_header_is_not_read_at_any_size(tmp_path, console):
    archive = with_header(tmp_path / "CUB.tgz", 50 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="header is too large"):
            prepare("cub200", tmp_path / "cub", [archive], console=console)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_members_are_counted(tmp_path, small_counts, console, monkeypatch):
    archive = small.write_tar(tmp_path / "CUB.tgz", small.cub())
    monkeypatch.setattr(archives, "MEMBERS", 5)
    with pytest.raises(DatasetError, match="more than 5 members"):
        prepare("cub200", tmp_path / "cub", [archive], console=console)


def test_two_that_prepare_take_turns(tmp_path, small_counts, console, monkeypatch):
    """The second waits, and finds it prepared."""
    archive = small.write_tar(tmp_path / "CUB.tgz", small.cub())
    root, arguments = tmp_path / "cub", ("cub200", tmp_path / "cub", [archive])
    extract, others = module.extract, []

    def extract_beside_another(*given):
        if not others:
            others.append(threading.Thread(target=prepare, args=arguments))
            others[0].start()
            others[0].join(0.5)
            assert others[0].is_alive() and not root.exists()
        extract(*given)

    monkeypatch.setattr(module, "extract", extract_beside_another)
    prepare(*arguments, console=console)
    others[0].join()
    assert len(CUB200(root, "test")) == 4
    assert sorted(os.listdir(tmp_path)) == ["CUB.tgz", "cub"]
