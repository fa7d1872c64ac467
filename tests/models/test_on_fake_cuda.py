"""What the networks would do on a GPU, on fake tensors."""

import pytest
import torch
from fake_cuda import DEVICE, fake_cuda, images
from tiny import tiny

from ssiu.models import layers


def test_autocast_in_attention_keeps_no_float32_keys(monkeypatch):
    original, dtypes = layers.F.scaled_dot_product_attention, set()

    def attention(q, k, v):
        dtypes.update((q.dtype, k.dtype, v.dtype))
        return original(q, k, v)

    monkeypatch.setattr(layers.F, "scaled_dot_product_attention", attention)
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
