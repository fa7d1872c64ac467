"""Archives: what is wanted comes out bit for bit, and a hostile or damaged one writes nothing outside."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import in_child, limit_file_size

from ssiu.download.unpack import unpack
from ssiu.errors import BadInputError, OutputError, SaveError

FILES = {"top/HR/a.png": b"a" * 5000, "top/HR/b.png": bytes(range(256)) * 40, "top/readme.txt": b"no image"}


def tar(path: Path, members: dict[str, bytes], mode: str = "w", **facts) -> Path:
    """An archive of ``members``, each with these attributes of `TarInfo`."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, members: dict[str, bytes], mode: int = 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def made(path: Path, kind: str, members: dict[str, bytes] = FILES) -> Path:
    return zipped(path, members) if kind == "zip" else tar(path, members, kind)


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz", "zip"])
def test_the_wanted_files_come_out(tmp_path: Path, kind: str) -> None:
    hidden = {"top/HR/._a.png": b"what macOS puts into archives", "top/LR/a.png": b"another folder"}
    unpack(made(tmp_path / "x", kind, FILES | hidden), {"HR/*.png": tmp_path / "out"})
    found = {path.name: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert found == {"a.png": FILES["top/HR/a.png"], "b.png": FILES["top/HR/b.png"]}


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "..\\evil.png", "....png"])
@pytest.mark.parametrize("kind", ["w", "zip"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, kind: str, name: str) -> None:
    archive = made(tmp_path / "x", kind, {name: b"evil"})
    unpack(archive, {"*.png": tmp_path / "out/deep"})
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
    assert all(path.parent == tmp_path / "out/deep" for path in written) and not Path("/tmp/evil.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_what_is_no_regular_file_is_refused_where_it_is_wanted(tmp_path: Path, kind: bytes) -> None:
    archive = tar(tmp_path / "x", {"HR/a.png": b""}, type=kind, linkname="/etc/passwd")
    unpack(archive, {"other/*.png": tmp_path / "out"})
    link = zipped(tmp_path / "y", {"HR/a.png": b"/etc/passwd"}, stat.S_IFLNK | 0o777)
    for path in (archive, link):
        with pytest.raises(BadInputError, match=r"member HR/a\.png is a link or a device"):
            unpack(path, {"HR/*.png": tmp_path / "out"})
    assert not list(tmp_path.rglob("a.png"))


def test_two_members_for_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"two members are called a\.png"):
        unpack(tar(tmp_path / "x", {"one/a.png": b"1", "two/a.png": b"2"}), {"*.png": tmp_path / "out"})


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:xz", "zip"])
def test_every_cut_is_noticed_or_leaves_whole_files(tmp_path: Path, kind: str) -> None:
    archive = made(tmp_path / "x", kind)
    content = archive.read_bytes()
    for length in range(0, len(content), len(content) // 23):
        archive.write_bytes(content[:length])
        try:
            unpack(archive, {"HR/*.png": tmp_path / f"out{length}"})
            for path in tmp_path.glob(f"out{length}/*"):
                assert path.read_bytes() == FILES[f"top/HR/{path.name}"]
        except BadInputError as error:
            assert str(archive) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz", "zip"])
def test_a_flipped_bit_in_what_is_packed_is_noticed(tmp_path: Path, kind: str) -> None:
    archive = made(tmp_path / "x", kind)
    content = bytearray(archive.read_bytes())
    content[len(content) // 3] ^= 16
    archive.write_bytes(content)
    with pytest.raises(BadInputError, match="damaged"):
        unpack(archive, {"*.png": tmp_path / "out"})


def _page(path: Path) -> Path:
    path.write_bytes(b"<!doctype html>quota exceeded")
    return path


def _encrypted(path: Path) -> Path:
    content = bytearray(zipped(path, FILES).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    return path


def _pax(**headers: str) -> Callable[[Path], Path]:
    return lambda path: tar(path, {"a.png": b"abc", "b.png": b"def"}, pax_headers=headers)


def _sparse(offset: bytes, size: bytes) -> Callable[[Path], Path]:
    """A GNU sparse member whose header says where its data go in the file."""

    def make(path: Path) -> Path:
        content = bytearray(tar(path, {"a.png": b"a" * 512}, type=tarfile.GNUTYPE_SPARSE).read_bytes())
        content[386:410] = offset + size
        content[483:495] = size
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
        path.write_bytes(content)
        return path

    return make


HOSTILE = {
    "page": _page,
    "encrypted": _encrypted,
    "size -5": _pax(size="-5"),
    "size 10^30": _pax(size="1" + "0" * 30),
    "size of no digits": _pax(size="\N{SUPERSCRIPT TWO}"),
    "time of nothing": _pax(mtime="nan"),
    "sparse map": _pax(**{"GNU.sparse.map": "5,-5", "GNU.sparse.size": "9" * 30, "GNU.sparse.name": "a.png"}),
    "sparse 1.0": _pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "-1"}),
    "sparse offset": _sparse(b"\x80" + b"\xff" * 11, b"00000001000\0"),
    "sparse size": _sparse(b"00000000000\0", b"77777777777\0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_an_archive_says_nothing_worse_than_one_line_comes_of_it(tmp_path: Path, kind: str) -> None:
    archive = HOSTILE[kind](tmp_path / "x")
    try:
        unpack(archive, {"*.png": tmp_path / "out"})
    except (BadInputError, SaveError) as error:
        assert "\n" not in str(error)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) < 10_000


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x", FILES)

    def task() -> None:
        limit_file_size(6000, kill=False)
        unpack(archive, {"*.png": tmp_path / "out"})

    code, message = in_child(task)
    assert code == SaveError.exit_code and "b.png" in message


def test_a_name_that_the_disk_refuses_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long; choose another name"):
        unpack(tar(tmp_path / "x", {"n" * 300 + ".png": b""}), {"*.png": tmp_path / "out"})


def test_a_size_that_no_disk_has_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 60
    (tmp_path / "x").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(SaveError, match=r"unpacking a\.png needs 1,152,921,504\.6 GB in .* are free"):
        unpack(tmp_path / "x", {"*.png": tmp_path / "out"})
    assert not list(tmp_path.rglob("a.png"))
