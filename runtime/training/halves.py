"""A network cut in two: the device's stages in front of the cut, the server's behind it.

An exit in front of the cut stays with the device; its logits cross the cut beside the trunk's tensor, so that the server
still has the logits of all exits for one loss, and their gradients come back the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from runtime.errors import InvalidDecision, InvalidModel
from runtime.models.network import ExitsOnly, MultiExitNetwork
from runtime.models.pixels import PixelInput
from runtime.training import flat
from runtime.training.split import chain_stages, split_stages

Tensors = tuple[torch.Tensor, ...]


class Front(nn.Module):
    """A multi-exit network's first stages, and the heads of the exits among them."""

    def __init__(self, network: MultiExitNetwork, cut: int) -> None:
        super().__init__()
        self._gain, self._ends = network.gain, _early_ends(network, cut)
        self.stages = nn.ModuleList(islice(network.stages, cut))
        self.heads = nn.ModuleList(islice(network.heads, len(self._ends)))

    def forward(self, image: torch.Tensor) -> Tensors:
        """uint8 [N, 1, H, W] -> (tensor of the cut, logits [N, num_classes] of each exit in front of it)"""
        x, logits = image.to(torch.float32) * self._gain, []
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number in self._ends:
                logits.append(self.heads[self._ends.index(number)](x))
        return x, *logits


class Back(nn.Module):
    """The other stages and heads."""

    def __init__(self, network: MultiExitNetwork, cut: int) -> None:
        super().__init__()
        early = len(_early_ends(network, cut))
        self._cut, self._ends = cut, network.exit_ends[early:]
        self.stages = nn.ModuleList(islice(network.stages, cut, None))
        self.heads = nn.ModuleList(islice(network.heads, early, None))

    def forward(self, x: torch.Tensor, *early: torch.Tensor) -> Tensors:
        """What `Front` gave -> logits [N, num_classes] of all exits"""
        logits = [*early]
        for number in range(self._cut, self._cut + len(self.stages) + 1):
            if number > self._cut:
                x = self.stages[number - self._cut - 1](x)
            if number in self._ends:
                logits.append(self.heads[self._ends.index(number)](x))
        return tuple(logits)


def cut_in_two(network: nn.Module, cut: int) -> tuple[nn.Module, nn.Module]:
    """The modules on either side of cut `cut`, behind so many stages; their weights are the network's own, not copies.

    A chain of convolutions with exits is cut behind any of its stages (behind the last one the server has one head), a
    Sequential, of floats or pixels, between any two of its modules.

    Raises InvalidDecision for a cut that there is not, or one with nothing to train on a side of it, InvalidModel for another
    network, or for weights that both sides would have.
    """
    if isinstance(network, ExitsOnly):
        inner = network.network
        if not 1 <= cut <= len(inner.stages):
            raise InvalidDecision(f"the network can be cut behind its stages 1..{len(inner.stages)}, got {cut}")
        halves: tuple[nn.Module, nn.Module] = (Front(inner, cut), Back(inner, cut))
    elif isinstance(network, PixelInput):
        front, back = _cut_chain(network.network, cut)
        halves = (PixelInput(front), back)
    else:
        halves = _cut_chain(network, cut)
    _check(*halves)
    return halves


def _cut_chain(network: nn.Module, cut: int) -> tuple[nn.Module, nn.Module]:
    front, back = split_stages(chain_stages(network), (cut,))
    return nn.Sequential(*front), nn.Sequential(*back)


def _early_ends(network: MultiExitNetwork, cut: int) -> tuple[int, ...]:
    """Ends of the exits in front of the cut; the last one is always behind it."""
    return tuple(end for end in network.exit_ends[:-1] if end <= cut)


def _check(front: nn.Module, back: nn.Module) -> None:
    if not flat.trainable(front) or not flat.trainable(back):
        raise InvalidDecision("nothing is left to train on one side of the cut; cut elsewhere, or freeze fewer layers")
    if _ids(front.parameters()) & _ids(back.parameters()):
        raise InvalidModel("stages on both sides of the cut share weights; cut where they do not")


def _ids(parameters: Iterable[nn.Parameter]) -> set[int]:
    return {id(parameter) for parameter in parameters}
