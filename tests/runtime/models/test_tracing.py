"""A traced network keeps both of its modes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidConfig
from runtime.models.exits import add_exits

IMAGE = torch.ones((1, 3, 8, 8))


class Dropping(nn.Module):
    """Dropout as a function, the mode by position, by name, or by a branch."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 16, 3), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, 3, H, W] -> logits [N, 3]"""
        x = self.second(self.first(x).relu()).relu()
        if self.way == "position":
            x = functional.dropout(x, 0.5, self.training)
        elif self.way == "name":
            x = functional.dropout(x, p=0.5, training=self.training)
        elif self.training:
            x = x + torch.rand_like(x)
        logits: torch.Tensor = self.last(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("way", ["position", "name"])
def test_functional_dropout_follows_the_mode(way: str) -> None:
    """It drops while exits are trained, and not when they are used; the module keeps its mode."""
    network = Dropping(way)
    with_exits = add_exits(network, IMAGE, at=1)
    assert network.training
    torch.manual_seed(0)
    with_exits.train()
    assert not torch.equal(with_exits(IMAGE)[-1], with_exits(IMAGE)[-1])
    with_exits.eval()
    torch.testing.assert_close(with_exits(IMAGE)[-1], network.eval()(IMAGE), rtol=0, atol=0)


def test_another_computation_in_training_is_refused() -> None:
    """A branch on the mode would be one of both for ever."""
    with pytest.raises(InvalidConfig, match=r"must not branch on self\.training"):
        add_exits(Dropping("branch"), IMAGE, at=1)
