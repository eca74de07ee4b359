"""The models that drlctl can build, as data.  To add one: one `ModelSpec` here.

Nothing here imports torch: nodes and the cache key read specifications, only the builder makes networks of them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.errors import InvalidConfig, UnknownModel
from runtime.messages import TensorSpec


class ConvSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A 3x3 convolution with batch normalisation and ReLU."""

    channels: int
    stride: int = 1


class ExitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An exit of a network that is trained.  In a chain of convolutions: global average pooling, then a linear classifier."""

    end: int
    """Number of stages before it."""
    num_features: int | None = None
    """Rank of the classifier: features are projected linearly on so many first.  None: a plain linear layer."""
    loss_weight: float = 1.0
    """Its share in the training loss: how much the trunk bends to it."""


class ChainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of convolutions with exits: the arguments of `runtime.models.network:conv_chain`."""

    stages: tuple[tuple[ConvSpec, ...], ...]
    exits: tuple[ExitSpec, ...]

    def __post_init__(self) -> None:
        ends = [branch.end for branch in self.exits]
        if ends != sorted(set(ends)) or not ends or ends[0] < 1 or ends[-1] != len(self.stages):
            raise InvalidConfig(f"exit ends must rise from >= 1 to the number of stages {len(self.stages)}, got {ends}")


class FitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is trained."""

    epochs: int
    """0: it keeps the weights that its factory gives it under `seed`."""
    batch_size: int = 32
    learning_rate: float = 4e-3
    """Peak of a one-cycle schedule.  Source: Smith & Topin, arXiv:1708.07120."""
    max_shift_pixels: int = 4
    """Augmentation: every picture is shifted by up to so many pixels each way."""
    seed: int = 0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is made: its network, its data, where it is cut, in which variants."""

    name: str
    factory: str
    """`package.module:factory`, a callable that gives a torch `nn.Module`."""
    arguments: dict[str, Any]
    """The factory's keyword arguments, JSON values."""
    input: TensorSpec
    """What the network takes, batch of one."""
    variants: tuple[str, ...]
    dataset: str = ""
    """Name of the examples to train and measure on.  Empty: random inputs, no accuracies."""
    fit: FitSpec = FitSpec(epochs=0)
    """How it is trained; not at all where there is no dataset."""
    exits: tuple[ExitSpec, ...] = ()
    """What training must know of the exits."""
    cuts: tuple[str, ...] = ()
    """Submodules behind which it is cut.  Empty: cuts are chosen automatically."""
    max_stages: int = 8
    """At most so many stages where cuts are chosen automatically."""

    def __post_init__(self) -> None:
        if bool(self.fit.epochs) != bool(self.dataset):
            raise InvalidConfig(f"{self.name}: a dataset and epochs belong together, got {self.dataset!r} and {self.fit.epochs}")


def conv_chain_spec(name: str, stages: tuple[tuple[ConvSpec, ...], ...], exits: tuple[ExitSpec, ...], fit: FitSpec) -> ModelSpec:
    """A chain of convolutions with exits for the digits, each of its stages a stage.  Raises InvalidConfig for impossible exits."""
    return ModelSpec(
        name=name,
        factory="runtime.models.network:conv_chain",
        arguments=msgspec.to_builtins(ChainSpec(stages=stages, exits=exits)) | {"num_classes": 10},
        input=TensorSpec(shape=(1, 1, 64, 64), dtype="uint8"),
        variants=("fp32", "int8"),
        dataset="digits",
        fit=fit,
        exits=exits,
        cuts=tuple(f"network.stages.{number}" for number in range(len(stages))),
    )


def _conv(channels: int, stride: int = 1) -> ConvSpec:
    return ConvSpec(channels=channels, stride=stride)


def _untrained(name: str, factory: str, shape: tuple[int, ...], **arguments: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"runtime.models.networks.{factory}",
        arguments=arguments,
        variants=("fp32",),
        input=TensorSpec(shape=shape, dtype="float32"),
    )


ZOO: dict[str, ModelSpec] = {
    "alexnet": _untrained("alexnet", "alexnet:alexnet", (1, 3, 32, 32)),
    "digits-cnn": conv_chain_spec(
        "digits-cnn",
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
        fit=FitSpec(epochs=7, seed=1),
    ),
    "generator": _untrained("generator", "generator:generator", (1, 100)),
    "lstm": _untrained("lstm", "lstm:lstm", (1, 1, 32, 32)),
    "mobilenet": _untrained("mobilenet", "mobilenet:mobilenet", (1, 3, 32, 32)),
    "resnet": _untrained("resnet", "resnet:resnet", (1, 3, 32, 32)),
}


def find_spec(name: str) -> ModelSpec:
    """The specification of a model.  Raises UnknownModel naming those there are."""
    if name not in ZOO:
        raise UnknownModel(f"no model {name!r} in the zoo; there is {', '.join(sorted(ZOO))}")
    return ZOO[name]
