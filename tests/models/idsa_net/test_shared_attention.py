"""IDSA-Net's shared attention: windows and grids, the formulas, and which attentions use one matrix."""

import pytest
import torch

from ssiu.models.idsa_net import shared_attention
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.idsa_net.shared_attention import SharedAttention

TINY = dict(n_feats=16, num_heads=2, n_blocks=3)


def recorded_matrices(model: IDSANet, lr: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """The matrices that each attention handed on, in the order they ran."""
    seen = {"window": [], "grid": []}

    def record(module: SharedAttention, _inputs: tuple, outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        seen["grid" if module.grid else "window"].append(outputs[1])

    for module in model.modules():
        if isinstance(module, SharedAttention):
            module.register_forward_hook(record)
    model(lr)
    return seen


@pytest.mark.parametrize("grid", [False, True])
def test_partition_round_trips_bit_exactly(grid):
    x = torch.rand(2, 5, 24, 16)
    tokens = shared_attention.partition(x, grid)
    assert tokens.shape == (2 * 3 * 2, 64, 5)
    assert shared_attention.unpartition(tokens, 24, 16, grid).equal(x)


def test_windows_hold_neighbours_and_grids_hold_strided_pixels():
    x = torch.arange(2 * 24 * 16).view(2, 1, 24, 16)
    windows, grids = shared_attention.partition(x, grid=False), shared_attention.partition(x, grid=True)
    assert windows[3, :, 0].view(8, 8).equal(x[0, 0, 8:16, 8:16])  # second row of windows, second column
    assert grids[3, :, 0].view(8, 8).equal(x[0, 0, 1::3, 1::2])
    assert grids[6 + 3, :, 0].view(8, 8).equal(x[1, 0, 1::3, 1::2])


def test_all_attentions_of_a_kind_use_the_very_same_matrix():
    seen = recorded_matrices(IDSANet(2, **TINY), torch.rand(1, 3, 16, 24))
    for matrices in seen.values():
        assert len(matrices) == 3 * 3
        assert all(matrix is matrices[0] for matrix in matrices)
        assert matrices[0].shape == (6, 2, 64, 64)
        assert torch.allclose(matrices[0].sum(-1), torch.ones(6, 2, 64))
    assert seen["window"][0] is not seen["grid"][0]


def test_share_group_renews_the_matrices_at_each_groups_first_block():
    seen = recorded_matrices(IDSANet(2, **TINY | dict(n_blocks=5), share_group=2), torch.rand(1, 3, 8, 8))
    for matrices in seen.values():
        of_block = [set(map(id, matrices[3 * i : 3 * i + 3])) for i in range(5)]
        assert [len(ids) for ids in of_block] == [1] * 5
        assert of_block[0] == of_block[1] != of_block[2] == of_block[3] != of_block[4] != of_block[0]


def test_gradient_reaches_the_sources_queries_and_keys_from_the_last_block():
    torch.manual_seed(0)
    model = IDSANet(2, **TINY)
    f = torch.rand(1, 16, 16, 16)
    matrices = (None, None)
    for block in model.blocks[:-1]:
        _, matrices = block(f, matrices)
    model.blocks[-1](f, matrices)[0].square().sum().backward()  # the matrices are its only link to the source
    source = model.blocks[0].distil.stages[0]
    for attention in (source.window, source.grid):
        for part in (*attention.query_key.weight.grad.chunk(2), attention.position.grad):
            assert part.abs().max() > 0


def test_position_bias_moves_attention_to_the_offset_it_names():
    attention = SharedAttention(4, 1, grid=False, source=True, sequence=False)
    with torch.no_grad():
        attention.position.zero_()
        attention.position[(7 + 2) * 15 + 7 - 1] = 50.0  # from a key to the query 2 rows below and 1 column to its left
        matrix = attention.attention_matrix(torch.rand(1, 64, 4))[0, 0].view(8, 8, 8, 8)
    assert matrix[5, 3, 3, 4] > 0.99


def test_attention_and_sequence_unit_follow_their_formulas():
    torch.manual_seed(0)
    unit = SharedAttention(4, 2, grid=False, source=True, sequence=True).double()
    x = torch.rand(1, 4, 8, 8).double()
    tokens = x[0].flatten(1).T  # one window, row-major
    normed = unit.norm(tokens)
    matrix = unit.attention_matrix(normed[None])[0]
    value = normed @ unit.value.weight.T
    heads = [matrix[head] @ value[:, 2 * head : 2 * head + 2] for head in range(2)]
    t = tokens + torch.cat(heads, dim=1) @ unit.out.weight.T
    u, v = unit.sequence.inward(unit.sequence.norm(t)).split(4, dim=1)
    padded = torch.cat([v.new_zeros(2, 4), v, v.new_zeros(2, 4)])
    kernel, bias = unit.sequence.conv.weight[:, 0], unit.sequence.conv.bias
    v = torch.stack([(padded[i : i + 5] * kernel.T).sum(0) + bias for i in range(64)])
    t = t + unit.sequence.outward(u * v * v.sigmoid())
    assert torch.allclose(unit(x, None)[0][0].flatten(1).T, t)


def test_where_nothing_is_shared_every_attention_has_its_own_matrix():
    seen = recorded_matrices(IDSANet(2, **TINY, share_group="none"), torch.rand(1, 3, 8, 8))
    assert len(set(map(id, seen["window"] + seen["grid"]))) == 2 * 3 * 3
