"""Validation as it would run on a GPU: what it launches there, and how often the host waits for it."""

from concurrent.futures import Future

import pytest
from fake_cuda import DEVICE, Launches, fake_cuda
from tiny_run import make_set

from ssiu.data.test_sets import load_test_set
from ssiu.device import set_arithmetic
from ssiu.evaluation.evaluate import evaluate
from ssiu.images import parallel
from ssiu.inference import cuda_graphs as graphs
from ssiu.models import MODELS


class InTurn:
    """A pool of threads that does at once what it is given: what counts launches sees its own thread alone."""

    def __init__(self, threads, initializer=None):
        pass

    def shutdown(self, **_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def launches_of(images: int, kind: str, precision: str, tmp_path, monkeypatch) -> Launches:
    set_arithmetic(precision, deterministic=False)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", InTurn)
    monkeypatch.setattr(graphs, "MAX_PIXELS", 0)  # no recording
    make_set(tmp_path / f"set{images}", count=images)
    test_set = load_test_set(tmp_path, f"set{images}", 2)
    model = MODELS[kind](2).eval()
    with fake_cuda(), Launches() as launches:
        result = evaluate(model.to(DEVICE), [test_set], precision=precision, protocols=("standard",))
    assert len(result.images) == images
    return launches


@pytest.mark.parametrize(("kind", "precision"), [("SSIU", "fp32"), ("SSIU", "fp16"), ("IDSANet", "bf16")])
def test_an_image_is_scored_on_the_device_and_waited_for_a_few_times(kind, precision, tmp_path, monkeypatch):
    one, three = (launches_of(images, kind, precision, tmp_path, monkeypatch) for images in (1, 3))
    assert (three.total - one.total) / 2 <= {"SSIU": 570, "IDSANet": 1200}[kind]  # 60 of them score
    # LR, HR, the weights of luma and of the window go there; whether all is finite, PSNR and SSIM come back
    assert len(three.blocking) - len(one.blocking) == 2 * 7
    assert three.casts - one.casts <= 2 * 6
