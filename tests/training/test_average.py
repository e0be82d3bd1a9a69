"""The moving average of weights against torch's own."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from boundseg.training.state.average import WeightAverage


def test_it_is_the_average_of_torch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    ours = WeightAverage(network, 0.9)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)  # type: ignore[no-untyped-call]
    for _ in range(5):
        network(torch.randn(2, 1, 8, 8)).square().sum().backward()
        optimizer.step()
        ours.update(network)
        theirs.update_parameters(network)
        for name, tensor in theirs.module.state_dict().items():
            # counts, which torch averages and rounds down, are taken over here
            wanted = network.state_dict()[name] if name.endswith("num_batches_tracked") else tensor
            torch.testing.assert_close(ours.module.state_dict()[name], wanted)
    assert not any(a is b for a, b in zip(ours.module.parameters(), network.parameters(), strict=True))
