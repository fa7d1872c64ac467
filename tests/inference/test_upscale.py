"""`ssiu.upscale` and `ssiu upscale` as people use them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from doubling import Doubling
from image_kinds import PROFILE, noise, turned
from PIL import Image
from small_sets import photo, small_set
from tiny import tiny
from torch.nn import functional as F

import ssiu
from ssiu.errors import BadInputError, ConfigError, NonFiniteError
from ssiu.evaluation.metrics import to_uint8
from ssiu.images.decoding import DecodedImage
from ssiu.images.io import read_image, read_rgb, save_image, write_image
from ssiu.inference import tiles
from ssiu.inference.prepare import prepare
from ssiu.inference.tiles import super_resolve
from ssiu.inference.upscaler import Upscaler

IMAGE = photo("chelsea", 37, 50)


# ---------------------------------------------------------------- one image in memory


def test_a_image_becomes_what_the_network_makes_of_it() -> None:
    model = tiny(3).eval()
    lr = torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255
    network = prepare(model)  # whose last bits may differ from the model's
    expected = to_uint8(super_resolve(network, lr)[0])
    np.testing.assert_array_equal(ssiu.upscale(model, IMAGE), expected)
    np.testing.assert_array_equal(np.array(ssiu.upscale(model, Image.fromarray(IMAGE))), expected)
    ensemble = to_uint8(super_resolve(network, lr, self_ensemble=True)[0])
    np.testing.assert_array_equal(ssiu.upscale(model, IMAGE, self_ensemble=True), ensemble)
    assert (ensemble != expected).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_type_and_channels_of_an_array_are_kept(channels: int, dtype: type) -> None:
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = noise(channels, np.uint16, 11, 9) / 65535
    image[..., -1] = np.maximum(image[..., -1], 0.01)  # nothing is hidden
    image = (image * full).astype(dtype)
    sr = ssiu.upscale(Doubling(), image)
    assert sr.dtype == dtype and sr.shape == (22, 18, channels)
    x = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(sr, expected, atol=0.51 if full > 1 else 1e-6)


def test_a_float_result_is_clamped_and_a_gray_array_stays_flat() -> None:
    class Overshooting(Doubling):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return 3 * super().forward(lr) - 1

    sr = ssiu.upscale(Overshooting(), np.linspace(0, 1, 24).reshape(4, 6))
    assert sr.shape == (8, 12) and sr.dtype == np.float32 and sr.min() == 0 and sr.max() == 1


@pytest.mark.parametrize(
    "mode, result",
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("PA", "RGBA"), ("RGB", "RGB"), ("RGBA", "RGBA")],
)
def test_pillow_images_of_every_mode(mode: str, result: str) -> None:
    sr = ssiu.upscale(Doubling(), Image.fromarray(IMAGE).convert(mode))
    assert sr.mode == result and sr.size == (100, 74)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_pillow_image_is_turned_upright_and_keeps_its_colour_profile_as_the_command_does(
    tmp_path: Path, suffix: str
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / f"a{suffix}", exif=turned(6), icc_profile=PROFILE)
    sr = ssiu.upscale(Doubling(), Image.open(tmp_path / f"a{suffix}"))
    upright = read_image(tmp_path / f"a{suffix}").pixels
    assert sr.size == (74, 100)
    np.testing.assert_array_equal(np.array(sr), ssiu.upscale(Doubling(), upright))
    for saved in ("b.png", "b.tif"):
        sr.save(tmp_path / saved)
        assert read_image(tmp_path / saved).icc_profile == PROFILE
        assert read_image(tmp_path / saved).pixels.shape == (100, 74, 3), "not turned once more"


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.full((4, 4, 3), 200.0), r"floats from 200.0 to 200.0; expected \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), "floats from nan"),
        (Image.new("CMYK", (4, 4)), "mode CMYK"),
        (Image.new("RGB", (0, 5)), r"a Pillow image of 0x5 pixels"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(image: object, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        ssiu.upscale(Doubling(), image)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"precision": "bfloat16"}, "precision: expected one of fp32, tf32, bf16, fp16, got bfloat16"),
        ({"tile": -1}, "tile: expected 'auto' or a whole number, 0 or more, got -1"),
        ({"tile": "all"}, "got 'all'"),
        ({"tile": 1.5}, "got 1.5"),
    ],
)
def test_an_option_that_cannot_be_is_named_before_an_image_is_seen(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Upscaler(Doubling(), **options)


def test_hidden_colours_do_not_bleed_into_the_edge() -> None:
    image = np.zeros((12, 12, 4), np.uint8)
    image[3:9, 3:9] = (200, 100, 50, 255)  # on transparent black
    sr = ssiu.upscale(Doubling(), image)
    assert (sr[..., :3] == (200, 100, 50)).all() and sr[..., 3].max() == 255 and sr[..., 3].min() == 0
    assert len(np.unique(sr[..., 3])) > 2, "the edge is smooth"


def test_one_value_of_alpha_costs_no_second_image() -> None:
    for alpha, images in ((np.full((8, 8, 1), 77, np.uint8), 1), (noise(1, np.uint8, 8, 8), 2)):
        model = Doubling()
        sr = ssiu.upscale(model, np.dstack([noise(3, np.uint8, 8, 8), alpha]))
        assert [len(x) for x in model.seen] == [images]
        assert images == 2 or (sr[..., 3] == 77).all()


def test_tiles_go_straight_into_the_result() -> None:
    model = Doubling()
    finished = []
    upscaler = Upscaler(model, tile=64)
    sr = upscaler(np.tile(IMAGE, (4, 3, 1)), finished.append)
    assert sum(finished) == 148 * 150 and len(finished) == len(model.seen) == 9
    assert all(max(x.shape[2:]) <= 64 + 2 * tiles.MARGIN for x in model.seen)
    np.testing.assert_array_equal(sr, Upscaler(Doubling(), tile=0)(np.tile(IMAGE, (4, 3, 1))))


def test_tiles_are_as_large_as_the_prepared_networks_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = 128 * 128 * Doubling.bytes_per_lr_pixel
    monkeypatch.setattr(tiles, "free_memory", lambda device: usable / tiles.RAM_SHARE + 1)
    passes = {}
    for needs in (1, Doubling.bytes_per_lr_pixel):
        model = Doubling()
        model.bytes_per_lr_pixel = needs
        Upscaler(model)(np.tile(IMAGE, (4, 3, 1)))
        passes[needs] = len(model.seen)
    assert passes == {1: 1, Doubling.bytes_per_lr_pixel: 4}


def test_nan_is_never_written_as_a_image() -> None:
    class Broken(Doubling):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return super().forward(lr) * float("nan")

    with pytest.raises(NonFiniteError, match="NaN or infinity in precision fp32"):
        ssiu.upscale(Broken(), IMAGE)


# ---------------------------------------------------------------- files


def test_the_command_writes_what_test_py_scores(command, weights: Path, tmp_path: Path) -> None:
    from ssiu.data.pairs import find_pairs
    from ssiu.data.test_sets import BenchmarkSet
    from ssiu.evaluation.evaluate import evaluate
    from ssiu.weights.load import load_model

    small_set(tmp_path / "data", 2)
    pairs = find_pairs(tmp_path / "data", "Set5", 2)
    evaluate(load_model(weights), [BenchmarkSet("Set5", pairs, 2)], save_to=tmp_path / "sr")
    code, out, _ = command(tmp_path / "data/benchmark/Set5/LR_bicubic/X2", "--output", tmp_path / "out")
    assert code == 0 and f"3 upscaled into {tmp_path}/out: 0.01 megapixels" in out and "x2 on cpu" in out
    for pair in pairs:
        ours = read_rgb(tmp_path / f"out/{pair.lr.name}")
        np.testing.assert_array_equal(ours, read_rgb(tmp_path / f"sr/Set5/{pair.name}_x2.png"))


def test_folders_keep_their_structure_and_patterns_theirs(command, tmp_path: Path) -> None:
    for name in ("in/a.png", "in/deep/er/b.JPG", "in/deep/c.tif", "in/.hidden/d.png", "in/._e.png", "in/note.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            save_image(path, IMAGE)
    assert command(tmp_path / "in", "--output", tmp_path / "in/out", "--format", "webp")[0] == 0
    written = sorted(str(p.relative_to(tmp_path / "in/out")) for p in (tmp_path / "in/out").rglob("*.*"))
    assert written == ["a.webp", "deep/c.webp", "deep/er/b.webp"]
    assert command(tmp_path / "in", "--output", tmp_path / "in/out")[1].startswith("loaded"), (
        "its own output is no input"
    )
    assert sorted(p.suffix for p in (tmp_path / "in/out").rglob("*.*")) == [".JPG", ".png", ".tif", *3 * [".webp"]]
    assert command(tmp_path / "in/**/*.tif", "--output", tmp_path / "two")[0] == 0
    written = sorted(str(p.relative_to(tmp_path / "two")) for p in (tmp_path / "two").rglob("*.*"))
    assert written == ["deep/c.tif", "out/deep/c.tif"]


@pytest.mark.parametrize("kind", ["gray 16", "rgba 16", "profile", "turned"])
def test_what_a_file_was_it_stays(command, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "turned":
        path = tmp_path / "a.jpg"
        Image.fromarray(IMAGE).save(path, exif=turned(6))
    else:
        channels, dtype = {"gray 16": (1, np.uint16), "rgba 16": (4, np.uint16), "profile": (3, np.uint8)}[kind]
        write_image(path, DecodedImage(noise(channels, dtype), PROFILE))
    before = read_image(path)
    assert command(path, "--output", tmp_path / "out")[0] == 0
    after = read_image(tmp_path / "out" / path.name)
    assert after.pixels.dtype == before.pixels.dtype and after.icc_profile == before.icc_profile
    assert after.pixels.shape == tuple(np.multiply(before.pixels.shape, (2, 2, 1)))
    if kind == "turned":
        assert after.pixels.shape == (100, 74, 3)


def test_an_output_file_can_be_named(command, tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", IMAGE)
    assert command(tmp_path / "a.png", "--output", tmp_path / "larger.tif")[0] == 0
    assert read_rgb(tmp_path / "larger.tif").shape == (74, 100, 3)
    save_image(tmp_path / "b.png", IMAGE)
    code, _, err = command(tmp_path / "a.png", tmp_path / "b.png", "--output", tmp_path / "both.tif")
    assert code == 73 and "is a file name, but there are 2 images" in err and not (tmp_path / "both.tif").exists()


def test_a_scale_that_is_not_the_configs_is_refused(command, tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", IMAGE)
    (tmp_path / "c.yml").write_text("scale: 2\nn_feats: 8\nnum_heads: 4\nn_blocks: 3\n")
    arguments = (tmp_path / "a.png", "--config", tmp_path / "c.yml", "--output", tmp_path / "out")
    code, _, err = command(*arguments, "--scale", 4)
    assert code == 78 and not (tmp_path / "out").exists()
    assert err == "error: --scale 4: the config is of scale 2; leave --scale out\n"
    assert command(*arguments, "--scale", 2)[0] == 0 and read_rgb(tmp_path / "out/a.png").shape == (74, 100, 3)


def test_what_is_there_is_kept_unless_told_otherwise(command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        save_image(tmp_path / f"in/{name}.png", IMAGE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_text("precious")
    code, out, _ = command(tmp_path / "in", "--output", tmp_path / "out")
    assert code == 73 and "1 upscaled" in out and "1 kept as they were (--overwrite replaces them)" in out
    assert (tmp_path / "out/a.png").read_text() == "precious" and (tmp_path / "out/b.png").exists()
    assert command(tmp_path / "in", "--output", tmp_path / "out", "--overwrite")[0] == 0
    assert read_rgb(tmp_path / "out/a.png").shape == (74, 100, 3)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_an_input_is_never_replaced_nor_two_outputs_mixed(command, tmp_path: Path, overwrite: list[str]) -> None:
    for name in ("a.png", "sub/a.png", "a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_image(tmp_path / name, IMAGE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "link").symlink_to(tmp_path)
    for inputs, output, expected, words in (
        (["a.png"], ".", 73, "is one of the inputs"),
        (["a.png"], "link", 73, "is one of the inputs"),
        (["a.png", "sub/a.png"], "out", 65, "into different --output folders"),
        (["a.png", "a.png"], "out", 65, "into different --output folders"),
        (["a.png", "a.jpg", "--format", "webp"], "out", 65, "into different --output folders"),
        (["absent.png"], "out", 66, "absent.png: no such file"),
        (["sub/*.tif"], "out", 66, "no images there"),
    ):
        arguments = [a if a.startswith("-") or a == "webp" else tmp_path / a for a in inputs]
        code, _, err = command(*arguments, "--output", tmp_path / output, *overwrite)
        assert code == expected and words in err and err.count("\n") == 1, (inputs, err)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if "link" not in path.parts} == before


def test_nothing_is_written_through_a_link(command, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir(parents=True)
    save_image(tmp_path / "in/a.png", IMAGE)
    save_image(tmp_path / "in/sub/b.png", IMAGE)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sentinel.png").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").symlink_to(tmp_path / "sentinel.png")
    (tmp_path / "out/sub").symlink_to(tmp_path / "elsewhere")
    code, _, err = command(tmp_path / "in", "--output", tmp_path / "out", "--overwrite")
    assert code == 65 and "a.png is a symbolic link" in err and "sub leads outside" in err
    assert (tmp_path / "sentinel.png").read_text() == "precious" and not list((tmp_path / "elsewhere").iterdir())


def test_broken_images_are_listed_at_the_end_and_do_not_stop_the_rest(command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "in/m.png", IMAGE)
    good = (tmp_path / "in/m.png").read_bytes()
    (tmp_path / "in/a.png").write_bytes(good[:-20])
    (tmp_path / "in/z.jpg").write_text("no image")
    write_image(tmp_path / "in/seethrough.png", DecodedImage(noise(4, np.uint8)))
    code, out, err = command(tmp_path / "in", "--output", tmp_path / "out", "--format", "jpg")
    assert code == 65 and "1 upscaled" in out and "3 failed" in out
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 3 and all(any(name in line for line in lines) for name in ("a.png", "z.jpg", "seethrough.png"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.jpg"]


def test_a_thousand_corrupt_files_are_all_reported_in_flat_memory(tmp_path: Path) -> None:
    import tracemalloc

    from ssiu.inference.batch import upscale_files
    from ssiu.inference.jobs import plan

    (tmp_path / "in").mkdir()
    save_image(tmp_path / "good.png", np.tile(IMAGE, (8, 8, 1)))
    good = (tmp_path / "good.png").read_bytes()
    for index, at in enumerate(np.random.default_rng(1).integers(0, len(good) - 12, 1000)):
        damaged = good[:at] if index % 2 else good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
        (tmp_path / f"in/{index:04}.png").write_bytes(damaged)
    model = Doubling()
    jobs = plan([str(tmp_path / "in")], tmp_path / "out")
    tracemalloc.start()
    report = upscale_files(Upscaler(model), jobs, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.failed) == 1000 and report.done == 0 and not model.seen
    assert all(sum(f"{index:04}.png" in line for line in report.failed) == 1 for index in range(0, 1000, 111))
    assert list((tmp_path / "out").iterdir()) == []
    assert peak < 20 * len(good) + 5_000_000


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    from faults import in_child, limit_file_size

    from ssiu.inference.batch import upscale_files
    from ssiu.inference.jobs import plan

    save_image(tmp_path / "a.png", noise(3, np.uint8, 100, 100))
    jobs = plan([str(tmp_path / "a.png")], tmp_path / "out")

    def run() -> None:
        limit_file_size(20_000, kill=False)
        upscale_files(Upscaler(Doubling()), jobs, tmp_path / "out")

    code, message = in_child(run)
    assert code == 74 and "SaveError: cannot write" in message
    assert "bytes needed" not in message, "nobody knows how many there would have been"
    assert list((tmp_path / "out").iterdir()) == []


def test_smaller_tiles_after_out_of_memory_give_the_same_image(caplog: pytest.LogCaptureFixture) -> None:
    class Hungry(Doubling):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            if lr.shape[-1] > 150:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(lr)

    image = np.tile(IMAGE, (5, 6, 1))
    np.testing.assert_array_equal(ssiu.upscale(Hungry(), image), ssiu.upscale(Doubling(), image))
    assert "continuing with tiles" in caplog.text


def test_a_path_is_no_image_in_memory() -> None:
    with pytest.raises(BadInputError, match=r"a path, 'photo\.jpg'; expected an array or a Pillow image: Image\.open"):
        ssiu.upscale(tiny(2), "photo.jpg")


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--scale", "3"], 65, "upscales by 2, not 3"),
        (["--weights", "absent.onnx"], 66, "no file at"),
        (["--weights", "a.png"], 65, "expected a plain state dict"),
        (["--weights", "net.pt2"], 65, "is an exported network, not weights"),
        (["--output", "larger.gif"], 73, "ends in .gif; expected .png"),
        (["--tile", "-1"], 2, "--tile: expected auto or a whole number, 0 or more, got '-1'"),
        (["--output", "a.png/out"], 73, "cannot create the output folder"),
    ],
)
def test_mistakes_on_the_command_line(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_image(Path("a.png"), IMAGE)
    Path("net.pt2").write_bytes(b"an exported program")
    ended, _, err = command("a.png", "--output", "out", *arguments)
    assert ended == code and message in err and "Traceback" not in err
    assert not Path("out").exists()
