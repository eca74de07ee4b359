"""The models that drlctl can build, as data.  To add one: one `ModelSpec` here.

Nothing here imports torch: nodes and the cache key read specifications, only the builder makes networks of them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.errors import InvalidConfig, UnknownModel


class ConvSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A 3x3 convolution with batch normalisation and ReLU."""

    channels: int
    stride: int = 1


class ExitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A branch: global average pooling, then a linear classifier."""

    end: int
    """Number of stages before it."""
    num_features: int | None = None
    """Rank of the classifier: features are projected linearly on so many first.  None: a plain linear layer."""
    loss_weight: float = 1.0
    """Its share in the training loss: how much the trunk bends to it."""


class FitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is trained."""

    epochs: int
    batch_size: int = 32
    learning_rate: float = 4e-3
    """Peak of a one-cycle schedule.  Source: Smith & Topin, arXiv:1708.07120."""
    max_shift_pixels: int = 4
    """Augmentation: every picture is shifted by up to so many pixels each way."""
    seed: int = 0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A multi-exit convolutional network: stages, exits, variants, and how it is trained."""

    name: str
    dataset: Literal["digits"]
    stages: tuple[tuple[ConvSpec, ...], ...]
    exits: tuple[ExitSpec, ...]
    variants: tuple[str, ...]
    fit: FitSpec

    def __post_init__(self) -> None:
        ends = [branch.end for branch in self.exits]
        if ends != sorted(set(ends)) or not ends or ends[0] < 1 or ends[-1] != len(self.stages):
            raise InvalidConfig(f"{self.name}: exit ends must rise from >= 1 to the number of stages {len(self.stages)}, got {ends}")


def _conv(channels: int, stride: int = 1) -> ConvSpec:
    return ConvSpec(channels=channels, stride=stride)


ZOO: dict[str, ModelSpec] = {
    "digits-cnn": ModelSpec(
        name="digits-cnn",
        dataset="digits",
        stages=(
            (_conv(16, 2), _conv(16)),
            (_conv(32, 2), _conv(32), _conv(32)),
            (_conv(48, 2), _conv(48), _conv(48), _conv(48)),
            (_conv(64), _conv(64), _conv(64)),
            (_conv(64), _conv(64), _conv(96, 2)),
            (_conv(96), _conv(96), _conv(96)),
            (_conv(128), _conv(128, 2)),
        ),
        exits=(ExitSpec(end=3, num_features=3, loss_weight=0.3), ExitSpec(end=5, num_features=3), ExitSpec(end=7)),
        variants=("fp32", "int8"),
        fit=FitSpec(epochs=7, seed=1),
    ),
}


def find_spec(name: str) -> ModelSpec:
    """The specification of a model.  Raises UnknownModel naming those there are."""
    if name not in ZOO:
        raise UnknownModel(f"no model {name!r} in the zoo; there is {', '.join(sorted(ZOO))}")
    return ZOO[name]
