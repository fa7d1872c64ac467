"""What an input is, and which file each image becomes."""

from pathlib import Path

import pytest
from PIL import Image
from small_sets import photo

from ssiu.errors import MissingInputError, OutputError
from ssiu.inference.jobs import plan

IMAGE = photo("chelsea", 37, 50)


def test_images_of_other_formats_are_counted_by_kind(command, photos: Path) -> None:
    Image.fromarray(IMAGE).save(photos / "d.jfif", "JPEG")
    for name in ("e.gif", "f.HEIC", "g.heic", "notes.txt", ".hidden.gif"):
        (photos / name).write_bytes(b"x")
    code, out, _ = command(photos, "--output", photos.parent / "out")
    assert code == 0 and "4 upscaled" in out
    assert f"{photos}: skipped 1 .gif, 2 .heic (not read; convert to PNG first)" in out
    assert (photos.parent / "out/d.jfif").read_bytes()[:2] == b"\xff\xd8"
    for path in photos.glob("*.[pj]*"):
        path.unlink()
    code, _, err = command(photos, "--output", photos.parent / "out")
    assert code == 66 and "no images there" in err and "there are 1 .gif, 2 .heic" in err


@pytest.mark.parametrize(
    "inputs, output, code, words",
    [
        (["in"], "in", 73, "--output in is the folder of the images, or holds it"),
        (["in"], ".", 73, "--output . is the folder of the images, or holds it"),
        (["in/*.png"], "in", 73, "--output in is the folder of the images, or holds it"),
        ([""], "out", 66, "an INPUT is empty"),
        (["in/a.png"], "", 2, "argument --output: expected a name, got ''"),
        (["in/a.png"], "x.gif", 73, "x.gif ends in .gif"),
        (["in"], "x.HEIC", 73, "x.HEIC ends in .HEIC"),
        (["in/**.png"], "out", 66, "in/**.png: Invalid pattern"),
        (["x" * 300], "out", 66, "File name too long"),
        (["in/a.png"], "x" * 300, 73, "File name too long"),
        (["in/a\0.png"], "out", 66, "no such file"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(
    command,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    output: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(photos.parent)
    before = sorted(Path().rglob("*"))
    ended, _, err = command(*inputs, "--output", output)
    assert ended == code and words in err and "Traceback" not in err
    assert err.count("\n") == 1 or code == 2
    assert sorted(Path().rglob("*")) == before


def test_a_folder_named_like_an_image_is_a_folder_once_it_is_there(photos: Path) -> None:
    (photos.parent / "x.gif").mkdir()
    (job,) = plan([str(photos / "a.png")], photos.parent / "x.gif")
    assert job.target == photos.parent / "x.gif/a.png"


def test_links_in_a_circle_are_no_input(photos: Path) -> None:
    (photos / "round.png").symlink_to(photos / "round.png")
    assert len(plan([str(photos)], photos.parent / "out")) == 3
    with pytest.raises(MissingInputError, match=r"round\.png"):
        plan([str(photos / "round.png")], photos.parent / "out")
    with pytest.raises((MissingInputError, OutputError), match="round"):
        plan([str(photos)], photos / "round.png/out")
