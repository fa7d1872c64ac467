"""Muon against its definition written out, which parameters are its own, and what a step does to them."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import tiny
from tiny_run import trainer
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ssiu.config.load import make_config
from ssiu.models import MODELS
from ssiu.models.idsa_net.network import IDSANet
from ssiu.models.ssiu import SSIU
from ssiu.training.optimizers import Muon, build_optimizer, matrix_shapes, orthogonalise


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimizer_gets_the_configs_numbers(name, kind):
    model = torch.nn.Linear(2, 2)
    config = make_config({"optimizer": name, "betas": [0.8, 0.9], "weight_decay": 0.1, "lr": 0.5})
    optimizer = build_optimizer(model, config)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.9), 0.1, 0.5)
    assert len(group["params"]) == 2


# against the definition


def matrices_of(weight: Tensor, groups: int) -> list[Tensor]:
    """Views of what is orthogonalised apart: every group of a convolution, and the squares of a tall matrix."""
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    parts = weight.flatten(1).split(rows)
    return [square for part in parts for square in (part.split(columns) if rows % columns == 0 else [part])]


def mixes_channels(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    one = isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and math.prod(weight.shape[2:]) == 1
    return one and weight.shape[1] > 1


class WrittenOut:
    """Muon's matrices one by one, each with its momentum."""

    def __init__(self, model: nn.Module, rate: float):
        modules = [module for module in model.modules() if mixes_channels(module)]
        self.weights = [(module.weight, getattr(module, "groups", 1)) for module in modules]
        self.momenta = [torch.zeros_like(weight) for weight, _ in self.weights]
        self.rate = rate

    @torch.no_grad()
    def step(self) -> None:
        for (weight, groups), momentum in zip(self.weights, self.momenta, strict=True):
            parts = zip(*(matrices_of(t, groups) for t in (weight, weight.grad, momentum)), strict=True)
            for w, g, m in parts:
                m.copy_(0.95 * m + 0.05 * g)
                x = 0.05 * g + 0.95 * m
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    gram = x @ x.T
                    x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
                w -= self.rate * 0.2 * math.sqrt(max(w.shape)) * x


@pytest.mark.parametrize("kind", [SSIU, IDSANet])
def test_steps_are_those_of_single_matrices_and_of_adamw_for_the_rest(double, kind):
    ours = tiny(kind=kind)
    theirs = copy.deepcopy(ours)
    numbers = {"lr": 2e-3, "betas": (0.8, 0.95), "weight_decay": 0.3}
    optimizer = Muon(ours, muon_lr=1e-2, **numbers)
    matrices = WrittenOut(theirs, 1e-2)
    own = {id(weight) for weight, _ in matrices.weights}
    adamw = torch.optim.AdamW([p for p in theirs.parameters() if id(p) not in own], fused=True, **numbers)
    before = copy.deepcopy(ours.state_dict())
    for step in range(4):
        lr, hr = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
        ours.zero_grad()
        (ours(lr) - hr).abs().mean().backward()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            q.grad = p.grad.clone()
        optimizer.step()
        matrices.step()
        adamw.step()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            if id(q) in own:
                assert (p - q).norm() <= 1e-10 * (q - before[name]).norm(), (step, name)
            else:
                assert torch.equal(p, q), (step, name)
    assert len(own) > 20 and len(own) < len(before)


def test_weight_decay_does_not_touch_matrices():
    ends = []
    for decay in (0.0, 0.5):
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = Muon(model, lr=0.1, muon_lr=0.1, weight_decay=decay)
        model.weight.grad, model.bias.grad = torch.randn(4, 4), torch.randn(4)
        optimizer.step()
        ends.append(model)
    assert torch.equal(ends[0].weight, ends[1].weight)
    assert not torch.equal(ends[0].bias, ends[1].bias)


def test_matrices_have_a_decoupled_decay_of_their_own():
    torch.manual_seed(0)
    ends = []
    for decay in (0.0, 0.5):
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        before = model.weight.detach().clone()
        optimizer = Muon(model, lr=0.1, muon_lr=0.2, muon_weight_decay=decay)
        model.weight.grad, model.bias.grad = torch.randn(4, 4), torch.randn(4)
        optimizer.step()
        ends.append(model)
    torch.testing.assert_close(ends[1].weight, ends[0].weight - 0.2 * 0.5 * before)
    assert torch.equal(ends[0].bias, ends[1].bias)


# which parameters


def test_the_full_ssiu_has_179_matrices_of_64_by_64_and_the_rest_is_adamws():
    model = SSIU(scale=2)
    names = {parameter: name for name, parameter in model.named_parameters()}
    matrices, others = Muon(model, lr=1e-3, muon_lr=6e-3).param_groups
    assert matrices["matrix"] == (64, 64) and others["matrix"] is None
    assert sum(p.numel() for p in matrices["params"]) == 179 * 64 * 64
    assert all(p.shape[1:] == (64, 1, 1) for p in matrices["params"])
    adamws = {names[p] for p in others["params"]}
    assert len(adamws) == len(others["params"]) and adamws.isdisjoint(names[p] for p in matrices["params"])
    assert len(adamws) + len(matrices["params"]) == len(names)
    for kind in ("head.weight", ".esam.conv.weight", ".value.1.weight", ".norm.weight", ".bias", ".rel_h", ".rel_w"):
        found = [name for name in names.values() if name.endswith(kind)]
        assert found and adamws.issuperset(found), kind
    assert all(p.ndim != 4 or p.shape[2:] == (3, 3) or p.shape[0] == 1 for p in others["params"])


@pytest.mark.parametrize(
    ("module", "matrix", "count"),
    [
        (nn.Linear(6, 6), (6, 6), 1),
        (nn.Linear(6, 18), (6, 6), 3),
        (nn.Linear(6, 15), (15, 6), 1),
        (nn.Linear(18, 6), (6, 18), 1),
        (nn.Conv2d(8, 8, 1), (8, 8), 1),
        (nn.Conv2d(8, 8, 1, groups=2), (4, 4), 2),
        (nn.Conv2d(8, 16, 1, groups=4), (2, 2), 8),
        (nn.Conv2d(12, 8, 1, groups=2), (4, 6), 2),
        (nn.Conv1d(8, 24, 1), (8, 8), 3),
        (nn.Conv2d(8, 8, 1, groups=8), None, 0),
        (nn.Conv2d(8, 8, (1, 3)), None, 0),
        (nn.Conv1d(8, 8, 5), None, 0),
        (nn.Linear(8, 1), None, 0),
        (nn.Linear(1, 8), None, 0),
        (nn.LayerNorm(8), None, 0),
    ],
    ids=str,
)
def test_a_layer_is_cut_into_matrices(module, matrix, count):
    model = nn.Sequential(module)
    assert matrix_shapes(model) == ({"0.weight": matrix} if matrix else {})
    assert matrix_shapes(module) == ({"weight": matrix} if matrix else {})
    sizes = {group["matrix"]: sum(p.numel() for p in group["params"]) for group in Muon(model, 1e-3, 1e-3).param_groups}
    vectors = sizes.pop(None)
    assert sizes == ({matrix: count * math.prod(matrix)} if matrix else {})
    assert vectors == sum(p.numel() for p in module.parameters()) - sum(sizes.values())


@pytest.mark.parametrize(
    ("module", "groups"),
    [
        (nn.Linear(6, 18), 1),
        (nn.Linear(18, 6), 1),
        (nn.Conv2d(8, 16, 1, groups=4), 4),
        (nn.Conv2d(12, 8, 1, groups=2), 2),
    ],
    ids=str,
)
def test_each_of_a_layers_matrices_moves_as_if_it_were_alone(module, groups):
    before, gradient = module.weight.detach().clone(), torch.randn_like(module.weight)
    optimizer = Muon(module, lr=1e-3, muon_lr=0.1)
    module.weight.grad = gradient.clone()
    optimizer.step()
    moved = matrices_of(module.weight.detach() - before, groups)
    for step, g in zip(moved, matrices_of(gradient, groups), strict=True):
        expected = -0.1 * 0.2 * max(g.shape) ** 0.5 * orthogonalise(g[None])[0]
        assert step == pytest.approx(expected, abs=1e-5)


# a step


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (96, 64), (16, 6), (6, 16), (64, 150)], ids=str)
def test_singular_values_of_well_conditioned_matrices_come_near_one_and_vectors_stay(shape):
    torch.manual_seed(0)
    n, small = 5, min(shape)
    u, v = (torch.linalg.qr(torch.randn(n, side, small)).Q for side in shape)
    values = 0.1 + 0.9 * torch.rand(n, small)
    found = orthogonalise(u * values[:, None] @ v.mT * 1e-3)
    assert found.shape == (n, *shape)
    singular = torch.linalg.svdvals(found)
    print(f"{shape}: {singular.min():.3f} to {singular.max():.3f}")
    assert 0.65 <= singular.min().item() <= singular.max().item() <= 1.25
    inner = u.mT @ found @ v  # diagonal: U and V are those of the input
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() <= 1e-4


def test_a_zero_gradient_moves_nothing():
    model = nn.Linear(4, 4, bias=False)
    before = model.weight.detach().clone()
    optimizer = Muon(model, lr=0.1, muon_lr=0.1)
    for _ in range(3):
        model.weight.grad = torch.zeros(4, 4)
        optimizer.step()
    assert torch.equal(model.weight, before)


def test_a_parameter_without_a_gradient_stays_and_the_others_move():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    before = copy.deepcopy(model)
    optimizer = Muon(model, lr=0.1, muon_lr=0.1)
    model[1](torch.randn(3, 4)).sum().backward()
    optimizer.step()
    assert all(map(torch.equal, model[0].parameters(), before[0].parameters()))
    assert not any(map(torch.equal, model[1].parameters(), before[1].parameters()))


def test_a_model_without_matrices_is_adamws_alone():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 3, 3), nn.GroupNorm(1, 3))
    theirs = copy.deepcopy(ours)
    numbers = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    optimizers = [Muon(ours, muon_lr=1.0, **numbers), torch.optim.AdamW(theirs.parameters(), fused=True, **numbers)]
    for _ in range(3):
        x = torch.randn(2, 3, 8, 8)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_the_fp16_scaler_changes_nothing_but_that_an_overflow_is_skipped_whole():
    plain, scaled = tiny(), tiny()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    numbers = {"lr": 1e-3, "muon_lr": 1e-2, "weight_decay": 0.1, "muon_weight_decay": 0.1}
    optimizers = [Muon(model, **numbers) for model in (plain, scaled)]
    lr, hr = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 32, 32)
    for overflow in (True, False, True, False):
        loss = (scaled(lr) - hr).abs().mean()
        scaler.scale(loss).backward()
        if overflow:
            scaled.head.weight.grad[0, 0] = torch.inf
        before = copy.deepcopy((scaled.state_dict(), optimizers[1].state_dict()["state"]))
        scaler.step(optimizers[1])
        scaler.update()
        if overflow:
            after = scaled.state_dict(), optimizers[1].state_dict()["state"]
            compared = zip(tree_leaves(after[: 1 + bool(before[1])]), tree_leaves(before), strict=True)
            assert all(torch.equal(a, b) for a, b in compared)
        if not overflow:
            (plain(lr) - hr).abs().mean().backward()
            optimizers[0].step()
            for p, q in zip(plain.parameters(), scaled.parameters(), strict=True):
                torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
        plain.zero_grad()
        scaled.zero_grad()


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="no closure"):
        Muon(nn.Linear(2, 2), lr=1e-3, muon_lr=1e-3).step(lambda: 0.0)


# in a run


def first_move(folder: Path, step: int, **changes: object) -> tuple[Tensor, Tensor, float]:
    """How far Muon's and AdamW's parameters go in a first step at ``step`` of the schedule, and its rate."""
    run = trainer(folder, optimizer="muon", weight_decay=0.0, **changes)
    (batch,) = run.stream.loader(0, 1)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    run.step = step
    run.train_step([batch])
    moves: dict[bool, list[Tensor]] = {True: [], False: []}
    shapes = matrix_shapes(run.model)
    for name, p in run.model.named_parameters():
        moves[name in shapes].append((p.detach() - before[name]).flatten())
    run.close()
    return torch.cat(moves[True]), torch.cat(moves[False]), run.schedule.learning_rate(step)


@pytest.mark.parametrize("schedule", [{"scheduler": "wsd", "decay_share": 0.5}, {"warmup_epochs": 2}], ids=str)
def test_both_rates_follow_the_schedule_in_proportion(double, folder, schedule):
    numbers = {"max_iterations": 30, "muon_lr": 0.02, "lr": 1e-3, **schedule}
    full = first_move(folder, 10, **numbers)
    assert full[2] == 1e-3
    shares = []
    for step in (0, 20, 29):
        matrices, others, rate = first_move(folder, step, **numbers)
        shares.append(rate / full[2])
        assert (matrices - full[0] * shares[-1]).norm() <= 1e-6 * full[0].norm()
        assert (others - full[1] * shares[-1]).norm() <= 1e-6 * full[1].norm()
    assert min(shares) < 0.1 and len(set(shares)) == 3


def test_muon_lr_moves_the_matrices_and_lr_the_others(double, folder):
    plain = first_move(folder, 0, lr=1e-3, muon_lr=1e-2)
    faster = first_move(folder, 0, lr=1e-3, muon_lr=3e-2)
    slower = first_move(folder, 0, lr=5e-4, muon_lr=1e-2)
    assert (faster[0] - 3 * plain[0]).norm() <= 1e-6 * plain[0].norm() and torch.equal(faster[1], plain[1])
    assert (slower[1] - plain[1] / 2).norm() <= 1e-6 * plain[1].norm()
    assert (slower[0] - plain[0]).norm() <= 1e-6 * plain[0].norm()
    assert 0.1 * 1e-2 <= plain[0].square().mean().sqrt() <= 0.3 * 1e-2  # 0.2 of the rate for square matrices


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_both_kinds_of_parameters_move(folder, model):
    run = trainer(folder, optimizer="muon", model=model, n_feats=16)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for batch in run.stream.loader(0, 2):
        run.train_step([batch])
    assert [losses["loss"].isfinite().item() for losses in run.loss_log.steps] == [True, True]
    after = dict(run.model.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    assert [name for name in matrix_shapes(run.model) if torch.equal(after[name], before[name])] == []
    assert sum(not torch.equal(after[name], before[name]) for name in after) > 0.9 * len(after)
    run.close()
