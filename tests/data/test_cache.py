"""The image cache: exact, shared, atomic, and never stale."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from toy_sets import write_set

from ssiu.data import cache as cache_module
from ssiu.data.cache import CachedImage, ImageCache, Source, default_cache_folder
from ssiu.errors import BadInputError, MissingInputError, OutputError, SaveError
from ssiu.files import held
from ssiu.images.io import read_rgb, save_image


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    write_set(tmp_path / "toy", ["a", "b", "c"])
    return sorted((tmp_path / "toy/HR").iterdir())


def prepare(cache: ImageCache, paths: Sequence[Path], scale: int = 1) -> list[CachedImage]:
    return cache.prepare([Source(path, scale) for path in paths])


def planes(source: Path) -> np.ndarray:
    return read_rgb(source).transpose(2, 0, 1)


def files(cache: ImageCache) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.folder.glob("*.npy")}


def test_cached_pixels_are_the_images_and_readable_by_numpy(tmp_path: Path, sources: list[Path]) -> None:
    cached = prepare(ImageCache(tmp_path / "cache"), [*sources, sources[0]])
    for source, image in zip([*sources, sources[0]], cached, strict=True):
        np.testing.assert_array_equal(image.open(), planes(source))
        np.testing.assert_array_equal(np.load(image.path, mmap_mode="r"), planes(source))
        assert not image.open().flags.writeable
    assert sorted(path.suffix for path in (tmp_path / "cache").glob("[!.]*")) == [".npy"] * 3


def test_a_second_run_decodes_nothing(tmp_path: Path, sources: list[Path], monkeypatch) -> None:
    cache = ImageCache(tmp_path / "cache")
    first = prepare(cache, sources)
    monkeypatch.setattr(cache_module, "decode_rgb", None)  # would fail if called
    assert prepare(ImageCache(tmp_path / "cache"), sources) == first


def _edit_one_pixel(path: Path) -> None:
    image = read_rgb(path)
    image[0, 0] ^= 1
    save_image(path, image)


def _other_content_same_size_and_time(path: Path) -> None:
    status = path.stat()
    new = path.with_suffix(".new")
    content = bytearray(path.read_bytes())
    new.write_bytes(content)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)  # a new inode


@pytest.mark.parametrize("change", [_edit_one_pixel, _other_content_same_size_and_time, Path.touch])
def test_a_changed_source_is_decoded_again_and_its_old_version_removed(tmp_path: Path, sources, change) -> None:
    cache = ImageCache(tmp_path / "cache")
    prepare(cache, sources)
    before = files(cache)
    time.sleep(0.01)
    change(sources[1])
    np.testing.assert_array_equal(prepare(cache, sources)[1].open(), planes(sources[1]))
    after = files(cache)
    assert len(after) == 3 and len(before.items() & after.items()) == 2


@pytest.mark.parametrize("keep", [0, 60, 200, -1])
def test_a_torn_cache_file_is_replaced(tmp_path: Path, sources: list[Path], keep: int) -> None:
    cache = ImageCache(tmp_path / "cache")
    image = prepare(cache, sources)[0]
    content = image.path.read_bytes()
    image.path.write_bytes(content[:keep])
    np.testing.assert_array_equal(prepare(cache, sources)[0].open(), planes(sources[0]))
    assert image.path.read_bytes() == content


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"source_sha256"', b'"source_sha257"'),
        (b"'shape'", b"'shap\xe5'"),
        (b"(3, 40, 60)", b"(3, 40,(60)"),
        (b"(3, 40, 60)", b"(3,  2400,)"),
        (b"'|u1'", b"'|i1'"),
        (b"False", b"True "),
        (b'{"source":', b'["source":'),
        (b", }", b"+ }"),
    ],
)
def test_a_cache_file_with_another_header_or_trailer_is_replaced(
    tmp_path: Path, sources, old: bytes, new: bytes
) -> None:
    cache = ImageCache(tmp_path / "cache")
    image = prepare(cache, sources)[0]
    content = image.path.read_bytes()
    assert content.count(old) == 1
    image.path.write_bytes(content.replace(old, new))
    assert cache.verify(sources[0]) is False
    assert prepare(cache, sources)[0] == image and image.path.read_bytes() == content


def test_no_flipped_bit_of_header_or_trailer_ends_in_a_traceback(tmp_path: Path, sources: list[Path]) -> None:
    cache = ImageCache(tmp_path / "cache")
    image = prepare(cache, sources)[0]
    content = image.path.read_bytes()
    for at in (*range(image.offset), *range(image.offset + 3 * 40 * 60, len(content))):
        for bit in (0, 3, 6):
            flipped = bytearray(content)
            flipped[at] ^= 1 << bit
            image.path.write_bytes(flipped)
            cache.verify(sources[0])


def test_what_a_killed_builder_left_is_removed_and_what_others_keep_there_is_not(tmp_path: Path, sources) -> None:
    cache = ImageCache(tmp_path / "cache")
    (cache.folder / "mine.part").mkdir(parents=True)
    for name in (".ssiu-0123456789abcdef.part", "film.part", ".film.part"):
        (cache.folder / name).write_bytes(b"half")
    prepare(cache, sources)
    assert {path.name for path in cache.folder.glob("*.part")} == {"mine.part", "film.part", ".film.part"}


def test_a_killed_builder_leaves_a_cache_that_the_next_run_completes(tmp_path: Path) -> None:
    write_set(tmp_path / "toy", [f"{i}" for i in range(30)], size=(200, 300))
    sources = sorted((tmp_path / "toy/HR").iterdir())
    program = (
        "import sys; from pathlib import Path; from ssiu.data.cache import ImageCache, Source\n"
        "ImageCache(sys.argv[1]).prepare([Source(path) for path in sorted(Path(sys.argv[2]).iterdir())])"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "cache"), str(tmp_path / "toy/HR")]
    builder = subprocess.Popen(arguments, cwd=Path(__file__).parents[2])
    while len(list(tmp_path.glob("cache/*.npy"))) < 3:
        assert builder.poll() is None
        time.sleep(0.002)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    for source, image in zip(sources, prepare(ImageCache(tmp_path / "cache"), sources), strict=True):
        np.testing.assert_array_equal(image.open(), planes(source))


def test_every_damaged_image_is_named_and_the_good_ones_are_kept(tmp_path: Path, sources: list[Path]) -> None:
    good = [source.read_bytes() for source in sources]
    for i in (0, 2):
        sources[i].write_bytes(good[i][:-20])
    cache = ImageCache(tmp_path / "cache")
    with pytest.raises(BadInputError, match=r"a\.png: damaged.*2 in all; also .*c\.png"):
        prepare(cache, sources)
    assert len(files(cache)) == 1


def test_builders_of_one_folder_take_turns(tmp_path: Path, sources: list[Path], caplog) -> None:
    cache = ImageCache(tmp_path / "cache")
    results = []
    cache.folder.mkdir()
    with caplog.at_level(logging.INFO, "ssiu"), held(cache.folder / ".lock", cache.folder, "", ""):
        waiting = threading.Thread(target=lambda: results.append(prepare(ImageCache(tmp_path / "cache"), sources)))
        waiting.start()
        while "waiting for another run" not in caplog.text:
            assert waiting.is_alive()
            time.sleep(0.01)
        assert not files(cache)
    waiting.join(20)
    assert len(results[0]) == 3


def test_a_complete_cache_may_be_read_only(tmp_path: Path, sources: list[Path], monkeypatch) -> None:
    cache = ImageCache(tmp_path / "cache")
    prepare(cache, sources)
    monkeypatch.setattr(cache_module, "held", None)  # nothing to lock, nothing to write
    assert len(prepare(cache, sources)) == 3


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path, sources: list[Path]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        prepare(ImageCache(tmp_path / "file/cache"), sources)


def test_too_little_space_is_said_before_decoding(tmp_path: Path, sources: list[Path], monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 100))
    with pytest.raises(SaveError, match="cache_dir"):
        prepare(ImageCache(tmp_path / "cache"), sources)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_missing_and_removed_images_are_named(tmp_path: Path, sources: list[Path]) -> None:
    cache = ImageCache(tmp_path / "cache")
    image = prepare(cache, sources)[0]
    image.path.unlink()
    with pytest.raises(MissingInputError, match="removed"):
        image.open()
    with pytest.raises(MissingInputError, match=r"absent\.png"):
        prepare(cache, [tmp_path / "absent.png"])


def test_the_digests_are_stored_behind_the_pixels(tmp_path: Path, sources: list[Path]) -> None:
    import hashlib

    image = prepare(ImageCache(tmp_path / "cache"), sources)[0]
    facts = json.loads(image.path.read_bytes()[image.offset + 40 * 60 * 3 :])
    assert facts["source_sha256"] == hashlib.sha256(sources[0].read_bytes()).hexdigest() == image.source_sha256
    assert facts["pixels_sha256"] == hashlib.sha256(planes(sources[0]).tobytes()).hexdigest()


def test_the_cache_lies_beside_the_data_unless_that_is_read_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    data = tmp_path / "data"
    data.mkdir()
    assert default_cache_folder(data) == data / ".ssiu_cache"
    data.chmod(0o555)
    assert default_cache_folder(data) == tmp_path / "home/ssiu/images"
    assert default_cache_folder(tmp_path / "absent") == tmp_path / "home/ssiu/images"


def test_as_many_images_stay_mapped_as_df2k_has():
    assert cache_module._mapped.cache_info().maxsize >= 2 * 3450
