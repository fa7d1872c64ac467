"""Figures: what is drawn, from what, and how mistakes end. (How they look was judged by eye.)"""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from small_sets import photo, small_set, write_set

from ssiu.cli import figures as figures_command
from ssiu.cli.console import named_path, named_paths
from ssiu.errors import BadInputError, ConfigError, MissingInputError, OutputError
from ssiu.evaluation.lam import Attribution
from ssiu.evaluation.metrics import Score, score
from ssiu.images.bicubic import imresize
from ssiu.images.io import save_image
from ssiu.models import SSIU
from ssiu.report.figures import (
    check_target,
    compare_figure,
    curves_figure,
    gain_box,
    joined,
    lam_figure,
    read_metrics,
    save_figure,
    tradeoff_figure,
)
from ssiu.report.paper.published import known_rows
from ssiu.report.paper.rows import measured_rows
from ssiu.report.paper.table1 import Row
from ssiu.weights.formats import save_weights


def test_compare_shows_the_box_of_every_image_with_its_score():
    hr = photo("coffee", 48, 64)
    images = {"darker": hr // 2, "same": hr}
    figure = compare_figure("Set/cup, x2", hr[::2, ::2], hr, images, (10, 20, 16, 12), 2)
    whole, *crops = figure.axes
    assert whole.get_xlabel() == "Set/cup, x2"
    (box,) = whole.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (10, 20, 16, 12)
    psnr, ssim = score(hr // 2, hr, 2, "standard")
    assert [axis.get_xlabel() for axis in crops] == [
        "HR\nPSNR dB / SSIM", "LR\nevery pixel 2x2", f"darker\n{psnr:.2f} / {ssim:.4f}", "same\ninf / 1.0000"
    ]  # fmt: skip
    nearest = hr[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    for axis, image in zip(crops, (hr, nearest, hr // 2, hr), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image[20:32, 10:26])


def test_compare_fills_its_grid_with_lr_only_where_a_cell_were_empty():
    hr = photo("coffee", 48, 64)
    for count in (1, 2, 3, 4):
        images = {f"m{index}": hr for index in range(count)}
        _, *crops = compare_figure("", hr[::2, ::2], hr, images, (10, 20, 16, 12), 2).axes
        assert len(crops) % 2 == 0
        assert ("LR" in {axis.get_xlabel().partition("\n")[0] for axis in crops}) == (count % 2 == 0)


def test_the_box_is_where_the_last_method_gains_most_not_where_bicubic_is_worst():
    hr = np.zeros((40, 60, 3), np.uint8)
    bicubic, ours = hr.copy(), hr.copy()
    bicubic[2:10, 2:10] = ours[2:10, 2:10] = 255  # worst, and no better in ours
    bicubic[30:34, 50:54] = 99
    left, top, width, height = gain_box(hr, {"bicubic": bicubic, "ours": ours}, 64)
    assert left <= 50 and left + width >= 54 and top <= 30 and top + height >= 34
    left, top, *_ = gain_box(hr, {"bicubic": bicubic}, 64)
    assert (left, top) == (2, 2)


def test_compare_refuses_a_box_outside_and_a_image_of_another_size():
    hr = photo("coffee", 48, 64)
    with pytest.raises(BadInputError, match="does not lie in the 64x48 image"):
        compare_figure("", hr, hr, {}, (60, 0, 16, 12), 2)
    with pytest.raises(BadInputError, match="mine: SR is 60x48 but HR is 64x48"):
        compare_figure("", hr, hr, {"mine": hr[:, :60]}, (0, 0, 16, 12), 2)


@pytest.mark.parametrize("scale, count", [(2, 21), (3, 21), (4, 22)])
def test_tradeoff_draws_every_method_with_a_number_on_the_set(scale, count):
    figure = tradeoff_figure(scale, "Manga109")
    (axis,) = figure.axes
    rows = [row for row in known_rows(scale) if "Manga109" in row.scores]
    assert len(rows) == count
    drawn = [tuple(points.get_offsets()[0]) for points in axis.collections[:count]]
    assert drawn == [(row.flops_g, row.scores["Manga109"].psnr) for row in rows]
    labels = {row.method for row in rows} - {"SSIU", "CATANet"} | {"SSIU (official)"}
    labels |= {"CATANet (float)"} if scale == 4 else set()
    assert {text.get_text() for text in axis.texts} == labels
    assert f"x{scale}" in axis.get_title() and "standard" in axis.get_title()


def test_tradeoff_adds_own_runs_under_standard_and_refuses_uncounted_ones(tmp_path):
    means = {"standard": {"Set5": Score(31.5, 0.88)}, "official": {"Set5": Score(31.6, 0.89)}}
    mine = Row("mine", 4, "x", means, params_k=794.5, flops_g=48.9)
    (axis,) = tradeoff_figure(4, "Set5", [mine]).axes
    assert "mine (standard)" in {text.get_text() for text in axis.texts}
    drawn = [tuple(points.get_offsets()[0]) for points in axis.collections if len(points.get_offsets())]
    assert (48.9, 31.5) in drawn
    for bad, where in ((Row("mine", 4, "x", means), "Set5"), (mine, "Set14")):
        with pytest.raises(BadInputError, match=f"mine: no PSNR on {where}"):
            tradeoff_figure(4, where, [bad])


@pytest.mark.parametrize("scale, set_name", [(2, "Set14"), (3, "Manga109"), (4, "Manga109"), (4, "Set5")])
def test_labels_of_tradeoff_cover_neither_each_other_nor_a_marker(scale, set_name):
    figure = tradeoff_figure(scale, set_name)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    labels = [Text.get_window_extent(text) for text in axis.texts]
    for markers in axis.collections:
        for x, y in axis.transData.transform(markers.get_offsets()):
            radius = 0.5 * math.sqrt(markers.get_sizes()[0]) * figure.dpi / 72
            marker = Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
            assert not any(label.overlaps(marker) for label in labels)
    assert not any(a.overlaps(b) for index, a in enumerate(labels) for b in labels[:index])


def test_tradeoff_draws_what_was_measured_here_as_rings():
    (axis,) = tradeoff_figure(4, "Set5").axes
    rings = {tuple(each.get_offsets()[0]) for each in axis.collections
             if len(each.get_offsets()) and not len(each.get_facecolor())}  # fmt: skip
    rows = measured_rows(4)
    assert rings == {(row.flops_g, row.means["standard"]["Set5"].psnr) for row in rows} and len(rows) >= 14
    labels = [text.get_text() for text in axis.texts]
    assert "PAN" in labels and labels.count("IMDN") == 1, "whose published row has the name"
    assert "measured here" in {text.get_text() for text in axis.get_legend().get_texts()}


def test_tradeoff_knows_only_the_papers_sets():
    with pytest.raises(BadInputError, match="'DIV2K'"):
        tradeoff_figure(4, "DIV2K")


LINES = [
    {"kind": "train", "step": 1, "loss": 0.5},
    {"kind": "validation", "step": 1, "psnr/val": 30.0},
    {"kind": "train", "step": 2, "loss": 0.25},
    {"kind": "validation", "step": 2, "psnr/val": 31.0},
]


def test_curves_have_the_loss_and_each_validated_set_of_every_run():
    figure = curves_figure({"a": LINES, "b": LINES[:3:2]})
    loss, psnr = figure.axes
    assert [line.get_label() for line in loss.lines] == ["a", "b"]
    assert loss.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25]]
    assert [line.get_label() for line in psnr.lines] == ["a"]
    assert psnr.lines[0].get_xydata().tolist() == [[1, 30.0], [2, 31.0]]


def test_curves_have_each_loss_term_where_there_are_several():
    speed = {"epoch": 0, "lr": 1e-3, "it_per_s": 1.0, "data_wait": 0.0, "peak_mib": 100}
    ours = [{"kind": "train", "step": 1, "loss": 0.5, "l1": 0.3, "fft": 0.2, **speed}, LINES[1]]
    theirs = [{"kind": "train", "step": 1, "loss": 0.4, "charbonnier": 0.4, **speed}]
    figure = curves_figure({"ours": ours, "theirs": theirs})
    drawn = {
        axis.get_ylabel(): [line.get_label() for line in axis.lines if len(line.get_xdata())] for axis in figure.axes
    }
    assert drawn == {
        "training loss": ["ours", "theirs"],
        "its term l1": ["ours"],
        "its term fft": ["ours"],
        "its term charbonnier": ["theirs"],
        "PSNR on val, dB (standard)": ["ours"],
    }
    assert len(curves_figure({"theirs": theirs}).axes) == 1, "one term is the loss"


@pytest.mark.parametrize("name", ["_run", "lr$1$", "caf\udce9", "$\\frac$"])
def test_a_run_may_have_any_name(tmp_path, monkeypatch, name):
    run = tmp_path / name
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    drawn = []
    monkeypatch.setattr(figures_command, "save_figure", lambda *saved: (drawn.append(saved[1]), save_figure(*saved)))
    figures_command.main(["curves", str(run), "--output", str(tmp_path / "c.svg")])
    (entry,) = drawn[0].axes[0].get_legend().get_texts()
    assert entry.get_text() == (r"caf\udce9" if "caf" in name else name)
    mine = Row(name, 4, "x", {"standard": {"Set5": Score(31.5, 0.88)}}, params_k=794.5, flops_g=48.9)
    save_figure(tmp_path / "t.svg", tradeoff_figure(4, "Set5", [mine]))


def test_curves_share_their_x_axis():
    loss, psnr = curves_figure({"a": LINES, "b": LINES[:3:2]}).axes
    assert loss.get_xlim() == psnr.get_xlim()
    psnr.set_xlim(0, 9)
    assert loss.get_xlim() == (0, 9)


@pytest.mark.parametrize("losses", [(0.5, 0.25), (0.11, 0.083), (0.24, 0.021), (501, 0.034), (0.03, 0.03)])
def test_the_loss_has_plain_numbers_whatever_its_range(losses):
    figure = curves_figure({"a": [{"step": step, "loss": loss} for step, loss in enumerate(losses)]})
    figure.draw_without_rendering()
    (axis,) = figure.axes
    low, high = axis.get_ylim()
    texts = [text.get_text() for text in axis.get_yticklabels() if low <= text.get_position()[1] <= high]
    texts = [text for text in texts if text]
    assert len(texts) >= 3 and all(re.fullmatch(r"[0-9.]+", text) for text in texts)


@pytest.mark.parametrize("lines", [LINES[1:2], [{"step": 1, "loss": None}]], ids=["no loss", "skipped by fp16"])
def test_curves_of_runs_with_little_in_them_are_drawn_in_silence(lines, recwarn):
    curves_figure({"a": lines}).draw_without_rendering()
    assert not recwarn.list


def test_a_continued_run_begins_where_the_one_before_ended():
    lines = joined([LINES, LINES])
    assert [line["step"] for line in lines] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert LINES[0]["step"] == 1, "the runs themselves are unchanged"
    loss, _ = curves_figure({"both": lines}).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25], [3, 0.5], [4, 0.25]]


def test_curves_of_a_continued_run_from_the_command_line(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    drawn = []
    monkeypatch.setattr(figures_command, "save_figure", lambda path, figure: drawn.append(figure))
    figures_command.main(["curves", f"both={tmp_path}/a.jsonl+{tmp_path}/b.jsonl"])
    assert drawn[0].axes[0].lines[0].get_xydata()[-1].tolist() == [4, 0.25]


def test_curves_over_time_leave_validations_out():
    lines = [
        {"kind": "train", "step": 60, "loss": 0.5, "it_per_s": 1.0},
        {"kind": "validation", "step": 90, "psnr/Set5": 30.0},
        {"kind": "train", "step": 120, "loss": 0.25, "it_per_s": 0.5},
    ]
    loss, psnr = curves_figure({"a": lines}, over="time").axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 0.25]]
    assert psnr.lines[0].get_xydata().tolist() == [[2, 30.0]]
    assert psnr.get_xlabel() == "minutes of training"


def test_metrics_are_read_from_a_run_folder_and_other_files_are_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert read_metrics(tmp_path) == read_metrics(path) == LINES
    torn = path.read_text() + '{"kind": "tra'  # by a kill, or a run writes it now
    path.write_text(torn)
    assert read_metrics(path) == LINES
    for text, message in (
        ("no json\n", r"line 1: no line of a training run's metrics\.jsonl \('no json'\); remove it"),
        ("", "no training steps yet"),
        ('{"kind": "tra', "no training steps yet"),
        ("[1]\n", "line 1: no line"),
        ("[" * 100_000 + "\n", "line 1: no line"),
        ('{"step": "x"}\n', "line 1: no line"),
        (torn + "\n", rf"line {len(LINES) + 1}: no line"),
    ):
        path.write_text(text)
        with pytest.raises(BadInputError, match=message):
            read_metrics(path)
    with pytest.raises(MissingInputError, match=r"elsewhere"):
        read_metrics(tmp_path / "elsewhere")


def test_lam_marks_the_box_in_lr_pixels_and_colours_the_pixels_used():
    lr = np.full((20, 30, 3), 128, np.uint8)
    values = np.zeros((20, 30))
    values[5:8, 10:14] = 1.0
    figure = lam_figure(lr, (20, 10, 8, 6), 2, {"net": Attribution(values, 12.0)})
    first, second, bar = figure.axes
    assert bar.get_ylabel() == "share, of the largest pixel's"
    assert (*first.patches[0].get_xy(), first.patches[0].get_width()) == (9.5, 4.5, 4)
    gray, shares = second.images
    np.testing.assert_array_equal(shares.get_array(), values)
    colours = shares.to_rgba(shares.get_array())
    np.testing.assert_array_equal(colours[..., 3] > 0.5, values > 0)
    assert gray.get_array().max() <= 0.5
    assert second.get_xlabel() == "net\ndiffusion index 2.00"


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_are_written_in_the_format_of_their_name(tmp_path, suffix):
    figure = Figure()
    figure.add_subplot()
    path = tmp_path / f"f{suffix}"
    save_figure(path, figure)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")
    with pytest.raises(OutputError, match=r"f\.txt"):
        check_target(tmp_path / "f.txt")


def test_paths_may_be_named(tmp_path):
    assert named_paths(["SSIU=a/b.pt", "c/d.pt"]) == {"SSIU": Path("a/b.pt"), "d": Path("c/d.pt")}
    for run in ("run_lr0.1", "run_lr0.2"):
        (tmp_path / run).mkdir()
    assert list(named_paths([f"{tmp_path}/run_lr0.1", f"{tmp_path}/run_lr0.2/"])) == ["run_lr0.1", "run_lr0.2"]
    (tmp_path / "a=b").touch()
    assert named_path(f"{tmp_path}/a=b") == (None, tmp_path / "a=b")
    with pytest.raises(ConfigError, match="both called 'b'"):
        named_paths(["a/b.pt", "c/b.pt"])


def test_compare_names_the_copy_of_the_whole_set(tmp_path, monkeypatch):
    images = {"cup": photo("coffee", 48, 60), "odd": photo("coffee", 50, 60)}
    drawn = []
    monkeypatch.setattr(figures_command, "save_figure", lambda path, figure: drawn.append(figure))
    for count in (2, 1):
        write_set(tmp_path / str(count), "Set5", 2, dict(list(images.items())[:count]))
        command = ["compare", "--data", str(tmp_path / str(count)), "--set", "set5", "--scale", "2", "--image", "cup"]
        figures_command.main([*command, "--output", str(tmp_path / "c.png")])
    assert [figure.axes[0].get_xlabel() for figure in drawn] == ["Set5/cup, x2", "Set5 mod12/cup, x2"]


def test_compare_and_lam_from_the_command_line(tmp_path, capsys):
    small_set(tmp_path, 2)
    lr_path = tmp_path / "benchmark/Set5/LR_bicubic/X2/coffeex2.png"
    (tmp_path / "mine").mkdir()
    save_image(tmp_path / "mine/coffee_x2.png", imresize(np.array(Image.open(lr_path)), scale=2))
    common = ["compare", "--data", str(tmp_path), "--set", "Set5", "--scale", "2", "--output", str(tmp_path / "c.png")]
    figures_command.main([*common, "--image", "coffee", f"mine={tmp_path}/mine"])
    assert np.asarray(Image.open(tmp_path / "c.png")).std() > 10
    with pytest.raises(MissingInputError, match="has no image astronaut or astronautx2 or astronaut_x2"):
        figures_command.main([*common, "--image", "astronaut", f"mine={tmp_path}/mine"])

    save_image(tmp_path / "mine/chelsea.png", photo("chelsea", 48, 40))
    with pytest.raises(BadInputError, match=r"mine/chelsea\.png is 40x48 but HR of chelsea is 46x50; expected equal"):
        figures_command.main([*common, "--image", "chelsea", f"mine={tmp_path}/mine"])

    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", SSIU(2, n_feats=8, num_heads=2, n_blocks=3))
    weights = f"tiny={tmp_path}/w.safetensors"
    figures_command.main(
        ["lam", "--lr", str(lr_path), "--box", "20,20,8,8", weights, "--output", str(tmp_path / "l.png")]
    )
    assert "tiny: diffusion index" in capsys.readouterr().out
    assert (tmp_path / "l.png").stat().st_size > 1000
