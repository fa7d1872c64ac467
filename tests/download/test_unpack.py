"""Archives: what is wanted comes out bit for bit, and a hostile or damaged one writes nothing outside."""

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from faults import in_child, limit_file_size

from ssiu.download.unpack import unpack
from ssiu.errors import BadInputError, OutputError, SaveError

FILES = {"top/HR/a.png": b"a" * 5000, "top/HR/b.png": bytes(range(256)) * 40, "top/readme.txt": b"no image"}


def place(name: str) -> str | None:
    return "set/" + name.rpartition("/")[2] if name.endswith(".png") else None


def tar(path: Path, members: dict[str, bytes], special: tarfile.TarInfo | None = None, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if special:
            archive.addfile(special)
    return path


def zipped(path: Path, members: dict[str, bytes], mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz", "zip"])
def test_the_wanted_files_come_out(tmp_path: Path, kind: str) -> None:
    archive = zipped(tmp_path / "x", FILES) if kind == "zip" else tar(tmp_path / "x", FILES, mode=kind)
    assert unpack(archive, place, tmp_path / "out") == 2
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in tmp_path.rglob("out/*/*")}
    assert found == {"set/a.png": FILES["top/HR/a.png"], "set/b.png": FILES["top/HR/b.png"]}


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz", "zip", "zip lzma"])
def test_an_archive_with_a_wrong_byte_is_damaged(tmp_path: Path, kind: str) -> None:
    noise = {"a.png": random.Random(0).randbytes(5000)}
    archive = zipped(tmp_path / "x", noise) if kind == "zip" else tmp_path / "x"
    if kind == "zip lzma":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as opened:
            opened.writestr("a.png", noise["a.png"])
    elif kind != "zip":
        tar(archive, noise, mode=kind)
    content = bytearray(archive.read_bytes())
    for position in (60, 1000, len(content) // 2):
        content[position] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(BadInputError, match="x is damaged or no archive"):
        unpack(archive, place, tmp_path / "out")


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE_NAMES = ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "..\\evil.png"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_name_that_points_out_of_the_archive_is_refused(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / "x", {name: b"evil"})
    with pytest.raises(BadInputError, match=r"points out of the archive"):
        unpack(archive, place, tmp_path / "out/deep")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]


@pytest.mark.parametrize(
    "member",
    [
        special("HR/a.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("HR/a.png", tarfile.LNKTYPE, "top/readme.txt"),
        special("HR/a.png", tarfile.CHRTYPE),
        special("HR/a.png", tarfile.FIFOTYPE),
    ],
    ids=["link", "hard link", "device", "pipe"],
)
def test_what_is_no_regular_file_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    with pytest.raises(BadInputError, match=r"'HR/a\.png' is a link or a device"):
        unpack(tar(tmp_path / "x", {}, member), place, tmp_path / "out")
    archive = zipped(tmp_path / "y", {"HR/a.png": b"/etc/passwd"}, stat.S_IFLNK | 0o777)
    with pytest.raises(BadInputError, match=r"'HR/a\.png' is a link or a device"):
        unpack(archive, place, tmp_path / "out")
    assert not list(tmp_path.rglob("a.png"))


def test_links_that_nobody_wants_are_passed_over(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x", FILES, special("docs/latest", tarfile.SYMTYPE, "../v2"))
    assert unpack(archive, place, tmp_path / "out") == 2


def test_two_members_for_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"two members fit set/a\.png"):
        unpack(tar(tmp_path / "x", {"one/a.png": b"1", "two/a.png": b"2"}), place, tmp_path / "out")


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_every_cut_is_noticed_or_gives_fewer_files(tmp_path: Path, kind: str) -> None:
    archive = zipped(tmp_path / "x", FILES) if kind == "zip" else tar(tmp_path / "x", FILES, mode=kind)
    content = archive.read_bytes()
    end = len(content) if kind != "w" else 512 + 5120 + 512 + 10240  # a tar ends in zeros, which may be cut
    for length in range(0, end, end // 23):
        archive.write_bytes(content[:length])
        try:
            assert unpack(archive, place, tmp_path / f"out{length}") < 2
        except BadInputError as error:
            assert str(archive) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("kind", ["w:gz", "zip"])
def test_a_flipped_bit_in_what_is_packed_is_noticed(tmp_path: Path, kind: str) -> None:
    archive = zipped(tmp_path / "x", FILES) if kind == "zip" else tar(tmp_path / "x", FILES, mode=kind)
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= 16
    archive.write_bytes(content)
    with pytest.raises(BadInputError, match="damaged"):
        unpack(archive, place, tmp_path / "out")


def test_a_page_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"<!doctype html>quota exceeded")
    with pytest.raises(BadInputError, match="damaged or no archive"):
        unpack(tmp_path / "x", place, tmp_path / "out")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x", FILES)
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(BadInputError, match="encrypted"):
        unpack(archive, place, tmp_path / "out")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x", FILES)

    def task() -> None:
        limit_file_size(6000, kill=False)
        unpack(archive, place, tmp_path / "out")

    code, message = in_child(task)
    assert code == SaveError.exit_code and "b.png" in message


def test_a_name_that_the_disk_refuses_is_no_full_disk(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x", FILES)
    with pytest.raises(OutputError, match="File name too long; choose another name"):
        unpack(archive, lambda name: "n" * 300, tmp_path / "out")


def test_a_size_that_no_disk_has_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 60
    (tmp_path / "x").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(SaveError, match=r"unpacking 'a\.png' needs"):
        unpack(tmp_path / "x", place, tmp_path / "out")
    assert not list(tmp_path.rglob("a.png"))
