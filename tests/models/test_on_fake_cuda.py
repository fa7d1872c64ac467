"""What the networks would launch on a GPU, counted on fake tensors; the figures of before are main's at f2e1952."""

import pytest
import torch
from fake_cuda import DEVICE, Launches, fake_cuda, images
from tiny import tiny

from ssiu.models import MODELS, esam, layers, moe_fs
from ssiu.models import cuda_graphs as graphs

BEFORE = {  # launches of a forward pass of LR 120x80 at x4, as it was prepared for inference
    ("SSIU", torch.float32): 525,
    ("SSIU", torch.bfloat16): 1013,
    ("SSIU", torch.float16): 1012,
    ("IDSANet", torch.float32): 1131,
    ("IDSANet", torch.bfloat16): 1980,
    ("IDSANet", torch.float16): 1980,
}


@pytest.mark.parametrize(("kind", "dtype"), BEFORE, ids=str)
def test_a_prepared_network_launches_no_casts_and_far_less_than_autocast(kind, dtype):
    model = MODELS[kind](4).eval()
    with fake_cuda():
        prepared = model.to(DEVICE).prepare_for_inference(dtype)
        with Launches() as launches, torch.autocast("cuda", torch.float16):  # what surrounds it must not matter
            sr = prepared(images(1, 80, 120))
    assert (sr.shape, sr.dtype, sr.device) == ((1, 3, 320, 480), torch.float32, DEVICE)
    assert launches.casts <= 2  # of the image, and back
    assert launches.blocking == []
    assert launches.total <= (1.01 if dtype == torch.float32 else 0.6) * BEFORE[kind, dtype]


def test_autocast_in_attention_keeps_no_float32_keys(monkeypatch):
    original, dtypes = esam.F.scaled_dot_product_attention, set()

    def attention(q, k, v):
        dtypes.update((q.dtype, k.dtype, v.dtype))
        return original(q, k, v)

    monkeypatch.setattr(esam.F, "scaled_dot_product_attention", attention)
    model = tiny()
    with fake_cuda(), torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        model.to(DEVICE)(images(1, 32, 32))
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_interpolation_matrices_are_bilinear_upsampling(scale, align_corners):
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    rows, columns = (layers.interpolation_matrix(x, dim, scale, align_corners) for dim in (2, 3))
    expected = layers.upsample_bilinear(x, scale, align_corners)
    torch.testing.assert_close(rows @ x @ columns.T, expected, rtol=0, atol=1e-12)


def gradient_and_output(model):
    lr = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.zero_grad()
    sr = model(lr)
    sr.square().sum().backward()
    return sr.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("layout", ["planar", "shifted"])
@pytest.mark.parametrize("arguments", [{"scale": 2}, {"scale": 4, "attention": "dense"}])
def test_every_layout_computes_the_same_network(layout, arguments, monkeypatch):
    model = tiny(**arguments).double()
    expected = gradient_and_output(model)
    for module in (layers, esam, moe_fs):
        monkeypatch.setattr(module, f"is_{layout}", lambda x: True, raising=False)
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the planar norm computes in float32
    found = gradient_and_output(model)
    assert not torch.equal(found[1], expected[1]), "the layout took no part"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gradients_of_the_shifted_form_are_right():
    x, weight, bias = (
        torch.rand(size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 2, 5), (3, 1, 3, 3), (3,))
    )
    assert torch.autograd.gradcheck(layers.ReflectedBorder.apply, (x,))
    wide = torch.rand(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layers.ShiftedProducts.apply, (wide, weight, bias))


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


def test_twelve_sizes_compile_to_five_graphs_at_most():
    count = []

    def backend(graph, example):
        count.append(1)
        return graph.forward

    torch._dynamo.reset()
    model = tiny().eval()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        for height, width in [(32 + 7 * i, 48 + 5 * (i % 5)) for i in range(12)]:
            compiled(torch.rand(1, 3, height, width))
    torch._dynamo.reset()
    assert 1 <= len(count) <= 5
