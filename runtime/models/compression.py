"""Smaller networks made from a trained one: each form is a function from what was trained to another trained network.

What they have in common: the raw input, the number of exits and their classes stay; the trained network teaches the new one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import msgspec
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.models.counting import count_flops
from runtime.models.examples import Examples
from runtime.models.fitting import Progress, Teacher, seeded, train_network
from runtime.models.pixels import LowResolution
from runtime.models.pruning import Importance, has_batch_norm, prune
from runtime.models.zoo import FitSpec

FINE_TUNING_SHARE = 0.6
"""Epochs of fine-tuning as a share of the training's."""
FINE_TUNING_RATE = 0.5
"""Its peak learning rate as a share of the training's."""
WIDTH_STEPS = 64


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A trained network and all it takes to train another like it."""

    network: nn.Module
    """uint8 [N, C, H, W] -> list of logits [N, num_classes]."""
    factory: Callable[[float], nn.Module]
    """Width, 1.0 being that of `network` -> a network of the same kind, untrained."""
    train: Examples
    fit: FitSpec
    exit_weights: tuple[float, ...] | None = None
    flip: bool = False

    @property
    def example(self) -> torch.Tensor:
        """One input."""
        return torch.from_numpy(self.train.images[0])


def dense(trained: Trained, progress: Progress | None = None) -> nn.Module:
    """The network as it is."""
    return trained.network


def lowres(trained: Trained, progress: Progress | None = None, *, factor: int = 2) -> nn.Module:
    """The same network on pictures whose sides are divided by `factor`, fine-tuned; the input is still the full picture.

    Raises InvalidConfig for a network that works on one size only.
    """
    network = LowResolution(copy.deepcopy(trained.network), factor)
    try:
        network.eval()(trained.example)
    except RuntimeError as exc:
        raise InvalidConfig(f"{type(trained.network).__name__} does not work at 1/{factor} of the resolution: {exc}") from exc
    _fine_tune(network, trained, progress)
    return network


def pruned(
    trained: Trained,
    progress: Progress | None = None,
    *,
    flops_share: float = 0.5,
    importance: Importance | None = None,
    round_to: int = 8,
) -> nn.Module:
    """The network without its least important channels, fine-tuned; see `prune`.

    `importance` is by default the scale of batch normalisation, or l1 in a network that has none.
    """
    importance = importance or ("batch_norm" if has_batch_norm(trained.network) else "l1")
    network = prune(trained.network, trained.example, flops_share=flops_share, importance=importance, round_to=round_to)
    _fine_tune(network, trained, progress)
    return network


def slim(trained: Trained, progress: Progress | None = None, *, flops_share: float = 0.25) -> nn.Module:
    """The widest network of the same factory with at most `flops_share` of the work, distilled from scratch.

    Raises InvalidConfig when even the narrowest has more.
    """
    target = flops_share * count_flops(trained.network, trained.example)
    for step in range(WIDTH_STEPS - 1, 0, -1):
        with seeded(trained.fit.seed):
            network = trained.factory(step / WIDTH_STEPS)
        if count_flops(network, trained.example) <= target:
            _teach(network, trained, trained.fit, progress)
            return network
    raise InvalidConfig(f"no width of the factory has at most {flops_share:.0%} of the FLOPs; give a larger share")


FORMS: dict[str, Callable[..., nn.Module]] = {"dense": dense, "lowres": lowres, "pruned": pruned, "slim": slim}


def _fine_tune(network: nn.Module, trained: Trained, progress: Progress | None) -> None:
    epochs = max(1, round(trained.fit.epochs * FINE_TUNING_SHARE))
    spec = msgspec.structs.replace(trained.fit, epochs=epochs, learning_rate=trained.fit.learning_rate * FINE_TUNING_RATE)
    _teach(network, trained, spec, progress)


def _teach(network: nn.Module, trained: Trained, spec: FitSpec, progress: Progress | None) -> None:
    teacher = Teacher(network=trained.network)
    train_network(network, trained.train, spec, exit_weights=trained.exit_weights, teacher=teacher, flip=trained.flip, progress=progress)
