"""Validation as it would run on a GPU: what it launches there, and how often the host waits for it."""

from concurrent.futures import Future

import pytest
from fake_cuda import DEVICE, Launches, fake_cuda
from tiny_run import make_set

from ssiu.data.test_sets import load_test_set
from ssiu.device import set_arithmetic
from ssiu.evaluation import evaluate as module
from ssiu.evaluation.evaluate import evaluate
from ssiu.inference import cuda_graphs as graphs
from ssiu.models import MODELS


class InTurn:
    """A pool of threads that does at once what it is given: what counts launches sees its own thread alone."""

    def __init__(self, threads):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def launches_of(images: int, kind: str, precision: str, tmp_path, monkeypatch) -> Launches:
    set_arithmetic(precision, deterministic=False)
    monkeypatch.setattr(module, "ThreadPoolExecutor", InTurn)
    monkeypatch.setattr(graphs, "MAX_PIXELS", 0)  # no recording
    make_set(tmp_path / f"set{images}", count=images)
    test_set = load_test_set(tmp_path, f"set{images}", 2)
    model = MODELS[kind](2).eval()
    arguments = {"device": DEVICE, "precision": precision, "protocols": ("standard",), "progress": False}
    with fake_cuda(), Launches() as launches:
        result = evaluate(model.to(DEVICE), [test_set], **arguments)
    assert len(result.images) == images
    return launches


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["SSIU", "IDSANet"])
def test_an_image_is_scored_on_the_device_and_waited_for_a_few_times(kind, precision, tmp_path, monkeypatch):
    two, five = (launches_of(images, kind, precision, tmp_path, monkeypatch) for images in (2, 5))
    assert (five.total - two.total) / 3 <= {"SSIU": 570, "IDSANet": 1200}[kind]  # 60 of them score
    # LR, HR, the weights of luma and of the window go there; whether all is finite, PSNR and SSIM come back
    assert len(five.blocking) - len(two.blocking) == 3 * 7
    assert five.casts - two.casts <= 3 * 6
