"""A specification for somebody's data: an architecture of the zoo, or any network, fitted to what lies at a path.

Needs the `train` extra.  What it gives is data: `register` keeps it, `ensure_model` builds it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.errors import InvalidConfig
from runtime.messages import TensorSpec
from runtime.models.datasets import load_dataset
from runtime.models.datasets.built_in import BUILT_IN
from runtime.models.factories import taken_arguments
from runtime.models.fingerprints import hash_data, hash_factory
from runtime.models.variant_names import parse_variant
from runtime.models.wishes import Wishes, default_name
from runtime.models.zoo import PICTURES, ZOO, FitSpec, ModelSpec

MANY = 10_000
"""From so many training pictures on, batches are as large as the architecture's own."""
SMALL_BATCH = 32


def tailor(target: str, source: str, wishes: Wishes) -> ModelSpec:
    """The specification of `target`, a zoo model or `package.module:factory`, for the data set `source`.

    The factory is given those of `channels`, `size` and `num_classes` that it has parameters for.  A network that is not
    the project's takes floats 0..1, [N, C, H, W].  Raises InvalidDataset for the data, InvalidModel for the factory,
    InvalidConfig for wishes that cannot be.
    """
    base = _base(target)
    dataset = load_dataset(source)
    train = dataset.splits["train"].images
    offered = {"channels": train.shape[2], "size": train.shape[3], "num_classes": len(dataset.classes)}
    built_in = source in BUILT_IN
    num_exits = wishes.num_exits or base.num_exits
    return msgspec.structs.replace(
        base,
        name=wishes.name or default_name(base.name, source, wishes.num_exits),
        arguments=base.arguments | taken_arguments(base.factory, offered),
        input=TensorSpec(shape=train.shape[1:], dtype="uint8"),
        variants=wishes.variants or base.variants,
        dataset=source if built_in else str(Path(source).resolve()),
        data_sha256="" if built_in else hash_data(Path(source)),
        code_sha256="" if target in ZOO else hash_factory(target),
        fit=_fit(base.fit, wishes, len(train)),
        num_exits=num_exits,
        exit_weights=base.exit_weights if num_exits == base.num_exits else rising_weights(num_exits),
        scale_pixels=base.input.dtype != "uint8",
    )


def rising_weights(num_exits: int) -> tuple[float, ...]:
    """Weights of so many early exits and the last, in the training loss: the deeper, the more, up to 1."""
    return tuple((exit + 1) / (num_exits + 1) for exit in range(num_exits + 1))


def with_variant(spec: ModelSpec, variant: str, flops_share: float | None, name: str = "") -> ModelSpec:
    """A trained model's specification with one more variant, or with that variant anew at another share of the FLOPs.

    One's own model keeps its name; one of the zoo gets another.  Raises InvalidConfig for a model that is not trained,
    and for a share of a form that has none.
    """
    if not spec.dataset:
        raise InvalidConfig(f"{spec.name!r} is trained on nothing: build it with --data first, then compress that")
    form = parse_variant(variant).form
    shares = spec.flops_shares | ({form: flops_share} if flops_share is not None else {})
    return msgspec.structs.replace(
        spec,
        name=name or (f"{spec.name}-{variant}" if spec.name in ZOO else spec.name),
        variants=tuple(dict.fromkeys((*spec.variants, variant))),
        flops_shares=shares,
    )


def _base(target: str) -> ModelSpec:
    if target in ZOO:
        return ZOO[target]
    if ":" not in target:
        raise InvalidConfig(f"no architecture {target!r}: give package.module:factory, or one of {', '.join(sorted(ZOO))}")
    floats = TensorSpec(shape=(1,), dtype="float32")
    return ModelSpec(name=target.rpartition(":")[2], factory=target, arguments={}, input=floats, variants=("fp32",), fit=PICTURES)


def _fit(base: FitSpec, wishes: Wishes, num_pictures: int) -> FitSpec:
    batch_size = base.batch_size if num_pictures >= MANY else min(base.batch_size, SMALL_BATCH)
    epochs = wishes.epochs or base.epochs
    return msgspec.structs.replace(base, epochs=epochs, batch_size=batch_size, flip=wishes.flip or base.flip, seed=wishes.seed or base.seed)
