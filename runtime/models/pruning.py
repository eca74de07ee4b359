"""Structured pruning: whole channels are removed, so that what is left is a smaller dense network, without masks.

Which layers must lose the same channels (both ends of a skip connection, a depthwise convolution and its input, every head
on a trunk) is found by the library's dependency graph.  Source: Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural
Pruning", CVPR 2023 (torch-pruning).  Which channels go:

    batch_norm   those whose batch-norm scale is smallest in the whole network
                 Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, section 3
    l1, l2       in each layer the same share, those whose filters have the smallest norm
                 Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1 (l1; section 4.5 compares l2)
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch_pruning
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtime.errors import InvalidConfig
from runtime.models.counting import count_flops

Importance = Literal["batch_norm", "l1", "l2"]

MAX_LAYER_RATIO = 0.9
"""No layer loses more than this share of its channels: a global ranking could otherwise cut the network in two."""
NUM_BISECTIONS = 10


def prune(
    network: nn.Module, example: torch.Tensor, *, flops_share: float, importance: Importance = "batch_norm", round_to: int = 8
) -> nn.Module:
    """A copy with fewer channels, at most `flops_share` (0..1) of the work on `example`, and as little below as found.

    The network maps uint8 [N, C, H, W] to a list of logits and is left as it is; the copy has its remaining weights and
    needs fine-tuning.  Channel counts become multiples of `round_to` where they can: kernels work on blocks of 8.
    Raises InvalidConfig when no such copy is found, and like `remove_channels`.
    """
    if not 0 < flops_share < 1:
        raise InvalidConfig(f"flops_share must lie between 0 and 1, got {flops_share}")
    if importance == "batch_norm" and not has_batch_norm(network):
        raise InvalidConfig(f"{type(network).__name__} has no batch normalisation to rank channels by; use importance 'l1' or 'l2'")
    target = flops_share * count_flops(network, example)
    low, high = 0.0, 1.0
    best: nn.Module | None = None
    for _ in range(NUM_BISECTIONS):
        ratio = (low + high) / 2
        smaller = remove_channels(network, example, ratio=ratio, importance=importance, round_to=round_to)
        if count_flops(smaller, example) <= target:
            best, high = smaller, ratio
        else:
            low = ratio
    if best is None:
        raise InvalidConfig(f"no pruning to {flops_share:.0%} of the FLOPs with {importance!r} and multiples of {round_to}; allow more")
    return best


def has_batch_norm(network: nn.Module) -> bool:
    """Whether there are scales of batch normalisation to rank channels by."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def remove_channels(network: nn.Module, example: torch.Tensor, *, ratio: float, importance: Importance, round_to: int = 1) -> nn.Module:
    """A copy in evaluation mode without the least important channels; `ratio` is their share, 0..1.

    Raises InvalidConfig for a network whose dependencies the library cannot follow, such as one that reshapes by constants.
    """
    smaller = copy.deepcopy(network).eval()
    logits = smaller(example)
    try:
        with torch.enable_grad():
            _pruner(smaller, example, ratio, importance, round_to, logits[-1].shape[1]).step()
        shapes = [branch.shape for branch in smaller(example)]
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as exc:
        raise InvalidConfig(f"{type(network).__name__} cannot be pruned: {type(exc).__name__}: {exc}; use a narrower one instead") from exc
    if shapes != [branch.shape for branch in logits]:
        raise InvalidConfig("pruning would change the logits; end every exit in a linear layer")
    smaller.zero_grad()
    return smaller


def _pruner(
    network: nn.Module, example: torch.Tensor, ratio: float, importance: Importance, round_to: int, num_classes: int
) -> torch_pruning.pruner.BasePruner:
    return torch_pruning.pruner.BasePruner(
        network,
        example,
        importance=_importance(importance),
        global_pruning=importance == "batch_norm",
        pruning_ratio=ratio,
        max_pruning_ratio=MAX_LAYER_RATIO,
        ignored_layers=_classifiers(network, num_classes),
        round_to=round_to,
    )


def _importance(name: Importance) -> torch_pruning.importance.Importance:
    if name == "batch_norm":
        return torch_pruning.importance.BNScaleImportance()
    return torch_pruning.importance.MagnitudeImportance(p=int(name[1]))


def _classifiers(network: nn.Module, num_classes: int) -> list[nn.Module]:
    """Layers that end in logits or in a bottleneck narrower still."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features <= num_classes]
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.out_channels == num_classes]
    return [*linear, *convolutions]
