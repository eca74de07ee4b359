"""Models for one's own data: built, given exits, compressed; and what came of it: for `drlctl models`."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np

from drlctl.extras import require
from drlctl.output import Progress
from runtime.errors import InvalidConfig
from runtime.inference.confidence import take_exits
from runtime.models.build import build_spec, ensure_model
from runtime.models.examples import load_judgement
from runtime.models.fingerprints import hash_data, hash_factory
from runtime.models.loading import loaded_bytes
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.registry import find_spec, names, register
from runtime.models.wishes import Wishes, default_name
from runtime.models.zoo import ZOO, ModelSpec

DEFAULT_ARCHITECTURE = "resnet-small"
"""What is trained on somebody's data unless they say: small pictures of any number of channels, exits included."""
SHOWN_VARIANTS = ("fp32", "half", "int8", "lowres", "pruned")


class Confidence(msgspec.Struct, frozen=True, kw_only=True):
    """What leaving early when sure gives on the test split, with thresholds calibrated on the validation split."""

    thresholds: tuple[float, ...]
    """Normalised entropy, of every exit but the last."""
    shares: tuple[float, ...]
    """Of requests that leave at each exit."""
    accuracy: float
    saved_fraction: float
    """Reference seconds saved on average, as a share of the full network's; below 0 where the heads cost more."""


class VariantReport(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in figures."""

    accuracy: tuple[float, ...]
    """Of each exit, on the test split; empty where nothing was learnt."""
    num_parameters: int
    flops: int
    stored_bytes: int
    """All its files in the cache."""
    loaded_bytes: int | None = None
    """Memory that it takes when all its segments are loaded (runtime/models/loading.py); None: not measured."""
    stage_reference_s: tuple[float, ...]
    head_reference_s: tuple[float, ...]
    confidence: Confidence | None = None
    """None: one exit only."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is there now."""

    name: str
    directory: str
    exit_ends: tuple[int, ...]
    variants: dict[str, VariantReport]


def build_model(target: str, source: str, wishes: Wishes, progress: Progress) -> Built:
    """Build `target` for the data at `source`, or, without data, the model of that name as it is specified.

    Raises InvalidConfig for wishes without data, and like `tailor` and `ensure_model`.
    """
    require("train")
    if source:
        return _build(_tailored(target, source, wishes), progress)
    if wishes != Wishes() or ":" in target:
        raise InvalidConfig("a model of one's own needs data: give --data, a folder or 'digits'")
    import_from_here()
    return report(ensure_model(find_spec(target).name, progress=progress))


def choose_model(data: str, model: str, wishes: Wishes, progress: Progress) -> str:
    """Name of a built model: `model` as it is, or with `data` the architecture `model` trained on that; "" for neither.

    What was trained on the same data under that name before, with the same code, is taken as it is, unless `wishes` say
    otherwise.  Without wishes the model gets every form that the architecture has.  Raises like `build_model`;
    InvalidConfig for wishes without data.
    """
    import_from_here()
    if not data:
        if wishes != Wishes():
            raise InvalidConfig("variants and epochs are for training a model: give --data too")
        if model:
            ensure_model(find_spec(model).name, progress=progress)
        return model
    target = model or DEFAULT_ARCHITECTURE
    name = default_name(target, data)
    if wishes == Wishes() and name in names() and is_made_for(find_spec(name), data) and is_made_of(find_spec(name), target):
        ensure_model(name, progress=progress)
        return name
    return build_model(target, data, wishes if wishes.variants else _with_all_forms(target, wishes), progress).name


def is_made_for(spec: ModelSpec, data: str) -> bool:
    """Whether it was trained on what is called so now; a folder's files must be the same."""
    if not spec.data_sha256:
        return spec.dataset == data
    return spec.dataset == str(Path(data).resolve()) and spec.data_sha256 == hash_data(Path(data))


def is_made_of(spec: ModelSpec, target: str) -> bool:
    """Whether its network is the zoo's `target`, or what the factory `package.module:factory` makes now.  Raises InvalidModel."""
    if target in ZOO:
        return spec.factory == ZOO[target].factory
    return spec.factory == target and spec.code_sha256 == hash_factory(target)


def _with_all_forms(target: str, wishes: Wishes) -> Wishes:
    require("train")
    from runtime.models.factories import taken_arguments

    import_from_here()
    factory = ZOO[target].factory if target in ZOO else target
    slim = ("slim",) if ":" in factory and taken_arguments(factory, {"width": 1.0}) else ()
    return msgspec.structs.replace(wishes, variants=(*SHOWN_VARIANTS, *slim))


def compress_model(name: str, variant: str, flops_share: float | None, new_name: str, progress: Progress) -> tuple[Built, Built]:
    """(before, after) of adding a variant to a model; memory is measured.  Raises like `with_variant` and `ensure_model`."""
    require("train")
    from runtime.models.tailor import with_variant

    spec = with_variant(find_spec(name), variant, flops_share, new_name)
    import_from_here()
    before = report(ensure_model(name, progress=progress), measure_memory=True)
    after = _build(spec, progress)
    return before, report(Path(after.directory), measure_memory=True)


def report(directory: Path, *, measure_memory: bool = False) -> Built:
    """What the manifest and the judged examples of a built model say."""
    manifest = load_manifest(directory)
    variants = {variant: _report_variant(directory, manifest, variant, measure_memory) for variant in manifest.variants}
    return Built(name=manifest.model, directory=str(directory), exit_ends=manifest.exit_ends, variants=variants)


def _tailored(target: str, source: str, wishes: Wishes) -> ModelSpec:
    from runtime.models.tailor import tailor

    import_from_here()
    if target not in ZOO and ":" not in target and target in names():
        raise InvalidConfig(f"{target!r} has its data already; build it without --data, or give the architecture it is made of")
    return tailor(target, source, wishes)


def _build(spec: ModelSpec, progress: Progress) -> Built:
    """Register and build.  A specification that cannot be built is not kept."""
    directory = build_spec(spec, progress=progress)
    register(spec)
    return report(directory)


def import_from_here() -> None:
    """Let factories be found in the current folder, as `python -m` does: an installed command does not look there."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _report_variant(directory: Path, manifest: Manifest, variant: str, measure_memory: bool) -> VariantReport:
    info = manifest.variants[variant]
    return VariantReport(
        accuracy=info.accuracy.get("test", ()),
        num_parameters=info.num_parameters,
        flops=info.flops,
        stored_bytes=info.stored_bytes,
        loaded_bytes=loaded_bytes(directory, variant) if measure_memory else None,
        stage_reference_s=info.stage_reference_s,
        head_reference_s=info.head_reference_s,
        confidence=_confidence(directory, manifest, variant) if info.exit_thresholds else None,
    )


def _confidence(directory: Path, manifest: Manifest, variant: str) -> Confidence:
    info = manifest.variants[variant]
    judged = load_judgement(directory, "test", variant)
    taken = take_exits(judged.entropies, info.exit_thresholds)
    costs_s = np.array(info.exit_costs_s(manifest.exit_ends))
    full_s = sum(info.stage_reference_s) + info.head_reference_s[-1]
    return Confidence(
        thresholds=info.exit_thresholds,
        shares=tuple((np.bincount(taken, minlength=len(costs_s)) / len(taken)).tolist()),
        accuracy=float(judged.correct[taken, np.arange(len(taken))].mean()),
        saved_fraction=float(1 - costs_s[taken].mean() / full_s),
    )
