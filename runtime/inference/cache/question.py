"""What was asked of an input, and whose answers may serve."""

from __future__ import annotations

import hashlib

import msgspec

from runtime.codecs import is_lossless
from runtime.codecs.parcel import IDENTITY
from runtime.errors import InvalidInput, UnknownModel
from runtime.messages import Decision
from runtime.models.manifest import Manifest


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides an answer except the input itself.  Tenants never share answers."""

    tenant: str
    model: str
    version: str
    """Content version of the model, `content_version`."""
    variant: str
    exit: int
    stage: int = 0
    """The cut that the input belongs to; 0 is the raw input."""
    early_exit: bool = False
    """Whether the first confident exit up to `exit` answers; the version covers the thresholds."""
    codec: str = IDENTITY
    """The lossy codec that tensors go through on their way from here, if they go through one."""
    lossy_cuts: tuple[int, ...] = ()
    """The cuts where they do."""

    def __post_init__(self) -> None:
        if self.exit < 0 or self.stage < 0:
            raise InvalidInput(f"exit and stage must be >= 0, got exit {self.exit}, stage {self.stage}")

    @property
    def num_bytes(self) -> int:
        """Bytes of its text."""
        return sum(len(text.encode()) for text in (self.tenant, self.model, self.version, self.variant, self.codec))


def content_version(manifest: Manifest) -> str:
    """SHA-256 over all that an answer depends on: other segments, weights or exit thresholds are another version."""
    content = {
        name: (
            {key: file.sha256 for key, file in info.segments.items()},
            info.weights.sha256 if info.weights is not None else "",
            info.exit_thresholds,
        )
        for name, info in manifest.variants.items()
    }
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def question_of(manifest: Manifest, decision: Decision, *, tenant: str, stage: int = 0, version: str | None = None) -> Question:
    """The question that a decision asks of the tensors of cut `stage`; `version` saves hashing the manifest again.

    Raises UnknownModel for an exit that the model does not have.
    """
    _check_form(manifest, decision.variant, decision.exit)
    lossy_cuts = lossy_cuts_of(decision, manifest.end(decision), stage)
    return Question(
        tenant=tenant,
        model=manifest.model,
        version=version or content_version(manifest),
        variant=decision.variant,
        exit=decision.exit,
        stage=stage,
        early_exit=decision.early_exit,
        codec=decision.codec if lossy_cuts else IDENTITY,
        lossy_cuts=lossy_cuts,
    )


def lossy_cuts_of(decision: Decision, end: int, stage: int = 0) -> tuple[int, ...]:
    """Cuts from `stage` on where the decision's tensors lose something, `end` being the stages that its exit needs.

    Cut 0 belongs to them at stage 0, where the raw input has not been encoded yet; later ones only behind `stage`, whose
    own tensors have come through the codec already.
    """
    if is_lossless(decision.codec):
        return ()
    return tuple(sorted({cut for cut in decision.cuts if (stage < cut or cut == stage == 0) and cut < end}))


def acceptable(manifest: Manifest, asked: Question, split: str = "validation") -> tuple[Question, ...]:
    """Questions whose answers may serve, the asked one first, then by falling measured accuracy.

    All forms of a model answer the same thing, so one may stand in for another that was measured no more accurate:
    for a raw input any variant and exit, for the tensors of a cut (which are a variant's own) an exit of that variant
    behind the cut.  What may leave early counts as no more accurate than its last exit, and what a codec takes from it
    makes no form more accurate.  The answer then differs from the asked form's where that one errs, and on average it is
    no worse.
    Raises UnknownModel for a variant or exit that the model does not have.
    """
    _check_form(manifest, asked.variant, asked.exit)
    accuracy = {
        (variant, exit): value
        for variant, info in manifest.variants.items()
        if asked.stage == 0 or variant == asked.variant
        for exit, value in enumerate(info.accuracy.get(split, ()))
        if manifest.exit_ends[exit] > asked.stage
    }
    own = (asked.variant, asked.exit)
    bar = accuracy.get(own, float("inf"))
    others = [form for form in accuracy if accuracy[form] >= bar and (form != own or asked.early_exit or asked.lossy_cuts)]
    better = sorted(others, key=lambda form: (-accuracy[form], form))
    whole = msgspec.structs.replace(asked, early_exit=False, codec=IDENTITY, lossy_cuts=())
    return (asked, *(msgspec.structs.replace(whole, variant=variant, exit=exit) for variant, exit in better))


def _check_form(manifest: Manifest, variant: str, exit: int) -> None:
    if variant not in manifest.variants or exit >= len(manifest.exit_ends):
        raise UnknownModel(f"{manifest.model!r} has no exit {exit} of variant {variant!r}")
