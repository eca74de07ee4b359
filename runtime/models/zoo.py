"""The models that drlctl can build, as data.  To add one: one `ModelSpec` here.

Nothing here imports torch: nodes and the cache key read specifications, only the builder makes networks of them.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from runtime.errors import InvalidConfig
from runtime.messages import TensorSpec
from runtime.models.variant_names import FORM_NAMES, SHARED_FORMS, parse_variant

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
"""A model's name is also a file's."""


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
    flip: bool = False
    """Augmentation: every other picture is mirrored left to right.  For photographs, not for writing."""
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
    """How it is trained; without a dataset: how it would be, once it is given one."""
    exit_weights: tuple[float, ...] = ()
    """Share of each exit in the training loss.  Empty: 1 each."""
    num_exits: int = 0
    """So many early exits are added to a network that has none.  0: it is taken as it is."""
    scale_pixels: bool = False
    """Pictures are bytes and the network takes floats: 0..255 becomes 0..1 in front of it."""
    flops_shares: dict[str, float] = {}
    """Form -> share of the network's FLOPs that it keeps, where not the form's default."""
    cuts: tuple[str, ...] = ()
    """Submodules behind which it is cut.  Empty: cuts are chosen automatically."""
    max_stages: int = 8
    """At most so many stages where cuts are chosen automatically; or one for each exit, where the network has more exits."""
    data_sha256: str = ""
    """Of the dataset's files, where it is a path: other data are another model."""
    code_sha256: str = ""
    """Of the factory's module and the local ones it imports, where it is not the project's own: other code is another model."""

    def __post_init__(self) -> None:
        if NAME_PATTERN.fullmatch(self.name) is None:
            raise InvalidConfig(f"a model's name is up to 64 letters, digits and . _ @ + -, not beginning with a sign; got {self.name!r}")
        if self.dataset and self.fit.epochs < 1:
            raise InvalidConfig(f"{self.name}: a dataset and epochs belong together, got {self.dataset!r} and {self.fit.epochs}")
        forms = [parse_variant(variant).form for variant in self.variants]
        if not forms or len(set(self.variants)) != len(forms):
            raise InvalidConfig(f"{self.name}: give at least one variant and each once, got {', '.join(self.variants) or 'none'}")
        if not self.dataset and set(forms) != {FORM_NAMES[0]}:
            raise InvalidConfig(
                f"{self.name}: {', '.join(self.variants)}: forms other than the network's own are trained; give it a dataset"
            )
        for form, share in self.flops_shares.items():
            if form not in SHARED_FORMS or not 0 < share < 1:
                raise InvalidConfig(f"{self.name}: of {', '.join(SHARED_FORMS)} a share of FLOPs in 0..1 can be kept, got {form!r} {share}")


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
        exit_weights=tuple(branch.loss_weight for branch in exits),
        cuts=tuple(f"network.stages.{number}" for number in range(len(stages))),
    )


def _conv(channels: int, stride: int = 1) -> ConvSpec:
    return ConvSpec(channels=channels, stride=stride)


PICTURES = FitSpec(epochs=10, batch_size=128, learning_rate=8e-3, max_shift_pixels=1)
"""How networks for small pictures are trained on some ten thousand of them."""


def _untrained(name: str, factory: str, shape: tuple[int, ...], **arguments: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"runtime.models.networks.{factory}",
        arguments=arguments,
        variants=("fp32",),
        input=TensorSpec(shape=shape, dtype="float32"),
        fit=PICTURES,
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
    "resnet-small": msgspec.structs.replace(
        _untrained("resnet-small", "plain:plain_resnet", (1, 1, 28, 28)), num_exits=2, exit_weights=(0.3, 0.6, 1.0)
    ),
}
