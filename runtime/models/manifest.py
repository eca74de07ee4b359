"""What a model is to the runtime: its stages, exits, variants, and one file per runnable segment.

A model directory holds `manifest.json`, ONNX segments, and one weights file per variant that all its segments share.
For S stages and exits ending after n_e stages:

    body segment  "i-j"    stages [i, j), 0 <= i < j <= S        tensors of cut i -> tensors of cut j
    exit segment  "i-jxe"  stages [i, j) and exit e's head, j = n_e       cut i -> logits

Cut k is the boundary before stage k; cut 0 is the raw input.  A cut may carry several tensors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from runtime.codecs import find_codec
from runtime.errors import InvalidDecision, InvalidTensor, UnknownModel
from runtime.messages import TIERS, Decision, TensorSpec, Tier

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.safetensors"


_ITEM_BYTES = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, relative to the model directory, and what it must hash to."""

    path: str
    sha256: str
    num_bytes: int


class SegmentFile(StoredFile, frozen=True, kw_only=True):
    """One ONNX file: a segment's nodes, small constants inside, large weights by name only."""

    weights: tuple[str, ...] = ()
    """Tensors it takes from the variant's `weights` file."""
    any_batch: bool = False
    """Whether it runs several rows at once; else one."""


class VariantInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One physical form of the model."""

    cuts: tuple[tuple[TensorSpec, ...], ...]
    """Tensors of each cut 0..S, batch of one.  Cut S precedes the last exit's head."""
    segments: dict[str, SegmentFile]
    weights: StoredFile | None = None
    """A safetensors file with every large tensor once, whichever segments share it.  None: there is no large one."""
    outputs: tuple[TensorSpec, ...] = ()
    """What each exit's head puts out: logits of a classifier, or a picture."""
    stage_reference_s: tuple[float, ...]
    """Seconds of each stage alone on the host that built the model (median).  Emulated tiers are paced by these."""
    head_reference_s: tuple[float, ...]
    """The same for each exit's head."""
    accuracy: dict[str, tuple[float, ...]]
    """Measured: split name ("validation", "test") -> accuracy of each exit.  Empty where nothing is classified or learnt."""
    exit_thresholds: tuple[float, ...] = ()
    """Normalised entropy under which a request may leave, of every exit but the last; none: confidence was not calibrated."""
    exit_shares: tuple[float, ...] = ()
    """Share of validation examples that leave at each exit, of every exit."""
    size_bytes: int
    """The whole multi-exit model on disk."""
    num_parameters: int = 0
    """Of the network as it was trained, all exits together."""
    flops: int = 0
    """Of one input through all stages and all heads, as `runtime.models.counting` counts them."""

    @property
    def stored_bytes(self) -> int:
        """All its segments and weights together, as they lie in the model's directory."""
        return sum(segment.num_bytes for segment in self.segments.values()) + (self.weights.num_bytes if self.weights else 0)

    def exit_costs_s(self, exit_ends: tuple[int, ...]) -> list[float]:
        """Reference seconds of a request that leaves at each exit: its stages, its head, and the heads it passed in vain."""
        return [sum(self.stage_reference_s[:end]) + sum(self.head_reference_s[: exit + 1]) for exit, end in enumerate(exit_ends)]

    def cut_bytes(self, cut: int) -> int:
        """Payload of a cut: the sum of its tensors' raw bytes."""
        return payload_bytes(self.cuts[cut])


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model's stages, exits and variants."""

    model: str
    classes: tuple[str, ...]
    """Names of what the logits tell apart.  Empty for a model that does not classify, or was not trained to."""
    num_stages: int
    exit_ends: tuple[int, ...]
    """Number of stages each exit needs, rising; the last is num_stages."""
    variants: dict[str, VariantInfo]
    dataset: str
    """Name of the data it was trained on; empty when it was not."""
    built_on: str
    """Host the reference times were measured on."""

    def check(self, decision: Decision) -> None:
        """Raise UnknownModel or InvalidDecision unless this model can carry the decision out."""
        if decision.model != self.model:
            raise UnknownModel(f"model {decision.model!r} is not loaded here; this is {self.model!r}")
        if decision.variant not in self.variants:
            raise UnknownModel(f"variant {decision.variant!r} of {self.model!r} does not exist; there is {sorted(self.variants)}")
        if decision.exit >= len(self.exit_ends):
            raise InvalidDecision(f"exit {decision.exit} of {self.model!r} does not exist; exits are 0..{len(self.exit_ends) - 1}")
        end = self.exit_ends[decision.exit]
        if decision.cuts[1] > end:
            raise InvalidDecision(f"cuts {decision.cuts} go past exit {decision.exit}, which ends after {end} stages")
        if decision.early_exit and not self.variants[decision.variant].exit_thresholds:
            raise InvalidDecision(f"{self.model}/{decision.variant} has no calibrated confidence: it cannot leave early")
        find_codec(decision.codec)

    def check_tensors(self, variant: str, cut: int, specs: tuple[TensorSpec, ...]) -> None:
        """Raise InvalidTensor unless tensors of these specs are those of that cut."""
        expected = self.variants[variant].cuts[cut]
        if specs != expected:
            got = ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in specs) or "nothing"
            want = ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in expected)
            raise InvalidTensor(f"cut {cut} of {self.model}/{variant} carries {want}; got {got}")

    @property
    def input(self) -> TensorSpec:
        """The raw input, the same for all variants."""
        return next(iter(self.variants.values())).cuts[0][0]

    def end(self, decision: Decision) -> int:
        """Number of stages the decision's exit needs."""
        return self.exit_ends[decision.exit]

    def stage_range(self, decision: Decision, tier: Tier) -> tuple[int, int]:
        """Stages [start, stop) that the decision gives to a tier; start == stop for none."""
        p, q = decision.cuts
        bounds = (0, p, q, self.end(decision))
        index = TIERS.index(tier)
        return bounds[index], bounds[index + 1]

    def segments(self, tier: Tier | None = None, early_exit: bool = False) -> list[tuple[int, int, int | None]]:
        """(start, stop, exit) of every piece that a tier may have to run; None: any tier.

        Leaving early makes pieces that stop at and go on from exits' ends, and runs heads alone.
        """
        ends = dict(enumerate(self.exit_ends))
        bodies: list[tuple[int, int, int | None]] = [(i, j, None) for j in range(1, self.num_stages) for i in range(j)]
        last: list[tuple[int, int, int | None]] = [(i, end, exit) for exit, end in ends.items() for i in range(end)]
        heads: list[tuple[int, int, int | None]] = [(end, end, exit) for exit, end in ends.items() if early_exit and end < self.num_stages]
        between = set(self.exit_ends) if early_exit else set()
        match tier:
            case "device":
                return [piece for piece in bodies + last if piece[0] in {0, *between}] + heads
            case "cloud":
                return [piece for piece in bodies if piece[1] in between] + last + heads
            case _:
                return bodies + last + heads

    def any_batch(self, variant: str, start: int, stop: int, exit: int | None) -> bool:
        """Whether that segment runs several requests at once."""
        file = self.variants[variant].segments.get(segment_key(start, stop, exit))
        return file is not None and file.any_batch

    def last_tier(self, decision: Decision) -> Tier:
        """The tier where the decision's last stage and its exit's head run."""
        p, q = decision.cuts
        end = self.end(decision)
        return "device" if p == end else "edge" if q == end else "cloud"

    def early_exits(self, decision: Decision, tier: Tier) -> tuple[int, ...]:
        """Exits that the tier passes under the decision, where a confident request leaves before the decision's exit."""
        if not decision.early_exit:
            return ()
        start, stop = self.stage_range(decision, tier)
        return tuple(exit for exit, end in enumerate(self.exit_ends[: decision.exit]) if start < end <= stop)

    def expected_s(self, decision: Decision, tier: Tier) -> float:
        """Reference seconds of the tier's share: on average, where requests may leave early before or within it."""
        start, stop = self.stage_range(decision, tier)
        if start == stop:
            return 0.0
        if not decision.early_exit:
            return self.reference_s(decision.variant, start, stop, decision.exit if stop == self.end(decision) else None)
        info, expected_s, position, staying = self.variants[decision.variant], 0.0, 0, 1.0
        for exit, end in enumerate(self.exit_ends[: decision.exit + 1]):
            reached_s = sum(info.stage_reference_s[max(position, start) : min(end, stop)])
            if start < end <= stop:
                reached_s += info.head_reference_s[exit]
            expected_s, position = expected_s + staying * reached_s, end
            staying -= info.exit_shares[exit]
        return expected_s

    def reference_s(self, variant: str, start: int, stop: int, exit: int | None) -> float:
        """Reference seconds of a segment: the sum of its stages and of its head."""
        info = self.variants[variant]
        return sum(info.stage_reference_s[start:stop]) + (info.head_reference_s[exit] if exit is not None else 0.0)

    @property
    def full_reference_s(self) -> float:
        """Reference seconds of the full model, every stage and the last head, as fp32 (or its first variant)."""
        variant = "fp32" if "fp32" in self.variants else min(self.variants)
        return self.reference_s(variant, 0, self.num_stages, len(self.exit_ends) - 1)


def payload_bytes(specs: Iterable[TensorSpec]) -> int:
    """Raw bytes of tensors together."""
    return sum(math.prod(spec.shape) * _ITEM_BYTES[spec.dtype] for spec in specs)


def segment_key(start: int, stop: int, exit: int | None) -> str:
    """Name of a segment: "2-5", or "2-5x1" with exit 1's head behind it."""
    return f"{start}-{stop}" if exit is None else f"{start}-{stop}x{exit}"


def load_manifest(directory: Path) -> Manifest:
    """Read a model directory's manifest.  Raises UnknownModel when it is missing or corrupt."""
    path = directory / MANIFEST_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as exc:
        raise UnknownModel(f"no model in {directory}: cannot read {MANIFEST_NAME} ({exc.strerror})") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise UnknownModel(f"{path} is not a model manifest: {exc}") from exc


def read_stored(directory: Path, file: StoredFile) -> bytes:
    """A segment's or a weights file's bytes, verified.  Raises UnknownModel when they are missing or not what the manifest says."""
    path = directory / file.path
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UnknownModel(f"model file {path} cannot be read: {exc.strerror}") from exc
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise UnknownModel(
            f"model file {path} is corrupt: sha256 {digest[:12]}, expected {file.sha256[:12]}; remove its folder to have the model rebuilt"
        )
    return data


def store(directory: Path, path: str, data: bytes) -> StoredFile:
    """Write a file of the model directory, and what to verify it by."""
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return StoredFile(path=path, sha256=hashlib.sha256(data).hexdigest(), num_bytes=len(data))
