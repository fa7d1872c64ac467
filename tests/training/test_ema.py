"""The moving average: torch's own, in torch's own format."""

import torch
from tiny import equal, tiny
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssiu.training.ema import MovingAverage


def test_it_is_torchs_average_and_either_reads_the_others_state():
    model = tiny()
    ours = MovingAverage(model, 0.5)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for step in range(20, 26):  # from step 8 on it is 0.5
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model, step)
        theirs.update_parameters(model)
    assert equal(ours.state_dict(), dict(theirs.state_dict()))
    again = MovingAverage(tiny(seed=1), 0.5)
    again.load_state_dict(theirs.state_dict())
    assert again.updates == 6 and equal(again.state_dict(), ours.state_dict())
    theirs.load_state_dict(ours.state_dict())


def test_without_a_warmup_it_begins_with_the_initial_weights_and_is_as_long_from_the_first_step_on():
    model = nn.Linear(2, 2)
    ours = MovingAverage(model, 0.9, warmup=False)
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model, step)
        expected = [0.9 * e + 0.1 * p.detach() for e, p in zip(expected, model.parameters(), strict=True)]
    for own, e in zip(ours.module.parameters(), expected, strict=True):
        torch.testing.assert_close(own, e, rtol=0, atol=1e-6)


def test_buffers_are_those_of_the_model() -> None:
    """Else a network with batch norm would be validated, saved and used by statistics of no image at all."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = MovingAverage(model, 0.9)
    for step in range(3):
        model(torch.rand(2, 3, 5, 5) + step)
        average.update(model, step)
    buffers = dict(model.named_buffers())
    assert buffers["1.num_batches_tracked"] == 3 and equal(dict(average.module.named_buffers()), buffers)
