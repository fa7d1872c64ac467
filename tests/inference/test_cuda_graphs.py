"""Networks prepared for a GPU: what they would launch there, counted on fake tensors, and when that is recorded."""

import pytest
import torch
from fake_cuda import DEVICE, Launches, fake_cuda, images

from ssiu.inference import cuda_graphs as graphs
from ssiu.inference.prepare import prepare
from ssiu.models import MODELS

AUTOCAST = {  # launches of a forward pass of LR 120x80 at x4 without preparation, under autocast
    ("SSIU", torch.float32): 525,
    ("SSIU", torch.bfloat16): 1013,
    ("SSIU", torch.float16): 1012,
    ("IDSANet", torch.float32): 1131,
    ("IDSANet", torch.bfloat16): 1980,
    ("IDSANet", torch.float16): 1980,
}


@pytest.mark.parametrize(("kind", "dtype"), AUTOCAST, ids=str)
def test_a_prepared_network_launches_no_casts_and_far_less_than_autocast(kind, dtype):
    model = MODELS[kind](4).eval()
    with fake_cuda():
        prepared = prepare(model.to(DEVICE), dtype)
        with Launches() as launches, torch.autocast("cuda", torch.float16):  # what surrounds it must not matter
            sr = prepared(images(1, 80, 120))
    assert (sr.shape, sr.dtype, sr.device) == ((1, 3, 320, 480), torch.float32, DEVICE)
    assert launches.casts <= 2  # of the image, and back
    assert launches.blocking == []
    assert launches.total <= (1.01 if dtype == torch.float32 else 0.6) * AUTOCAST[kind, dtype]


class Recorder:
    """Records as CUDA would, but what it puts out says which recording made it."""

    def __init__(self):
        self.shapes = []

    def __call__(self, function, examples, memory):
        self.shapes.append(tuple(examples[0].shape[2:]))
        return lambda *tensors: (function(*tensors), len(self.shapes))


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "memory")
    recorder = Recorder()
    return graphs.Graphs(lambda x, *tile_offset: (tuple(x.shape), *tile_offset), recorder), recorder


def test_a_shape_is_recorded_when_it_comes_again_and_never_twice(recorded):
    network, recorder = recorded
    with fake_cuda():
        for _ in range(3):
            for side in (16, 32):
                network(images(1, side, side))
        assert recorder.shapes == [(16, 16), (32, 32)]
        assert network(images(1, 16, 16)) == (((1, 3, 16, 16),), 2)
        side = int(graphs.MAX_PIXELS**0.5) + 1
        for _ in range(3):
            network(images(1, side, side))  # busy for longer than its launches take
    assert len(recorder.shapes) == 2


def test_equal_tiles_share_one_recording_wherever_they_lie(recorded):
    network, recorder = recorded
    with fake_cuda():
        network(images(1, 32, 32))  # a whole image of their size is another matter
        for top in (0, 16, 32):
            out = network(images(1, 32, 32), tile_offset := torch.tensor([top, 0, 64, 64]))
        assert recorder.shapes == [(32, 32)] and out[0][1] is tile_offset
        network(images(1, 32, 32))
        assert len(recorder.shapes) == 2


def test_the_number_of_graphs_is_bounded_and_the_oldest_go(recorded):
    network, recorder = recorded
    with fake_cuda():
        for side in range(16, 16 + 2 * graphs.MAX_GRAPHS):
            for _ in range(2):
                network(images(1, 16, side))
        assert len(network.graphs) == graphs.MAX_GRAPHS
        recorder.shapes.clear()
        network(images(1, 16, side))  # the newest is still there
        assert recorder.shapes == []
