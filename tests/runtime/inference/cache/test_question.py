"""Whose answers may serve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runtime.errors import InvalidInput, UnknownModel
from runtime.inference.cache import acceptable, content_version, question_of
from runtime.inference.cache.question import lossy_cuts_of
from runtime.messages import Decision
from runtime.models.manifest import Manifest, load_manifest


@pytest.fixture(scope="module")
def manifest(digits_model: Path) -> Manifest:
    """The digits model, with accuracies made up for the hand-computed cases."""
    real = load_manifest(digits_model)
    accuracy = {"fp32": (0.80, 0.90, 0.95), "int8": (0.82, 0.89, 0.95)}
    variants = {name: msgspec.structs.replace(info, accuracy={"validation": accuracy[name]}) for name, info in real.variants.items()}
    return msgspec.structs.replace(real, variants=variants)


def forms(manifest: Manifest, variant: str, exit: int, stage: int = 0) -> list[tuple[str, int]]:
    decision = Decision(model=manifest.model, variant=variant, cuts=(0, 0), exit=exit)
    asked = question_of(manifest, decision, tenant="a", stage=stage)
    served = acceptable(manifest, asked)
    assert all((one.tenant, one.version, one.stage) == (asked.tenant, asked.version, stage) for one in served)
    return [(one.variant, one.exit) for one in served]


def test_more_accurate_forms_may_serve_a_raw_input(manifest: Manifest) -> None:
    """By hand: first the asked one, then the others by falling accuracy; none that was measured worse."""
    assert forms(manifest, "fp32", 1) == [("fp32", 1), ("fp32", 2), ("int8", 2)]
    assert forms(manifest, "int8", 0) == [("int8", 0), ("fp32", 2), ("int8", 2), ("fp32", 1), ("int8", 1)]
    assert forms(manifest, "fp32", 2) == [("fp32", 2), ("int8", 2)]


def test_the_tensors_of_a_cut_are_their_variants_own(manifest: Manifest) -> None:
    """int8 stays int8, and exits that end before the cut are out."""
    assert forms(manifest, "int8", 1, stage=4) == [("int8", 1), ("int8", 2)]


def test_without_measured_accuracy_only_the_asked_form_serves(manifest: Manifest) -> None:
    """Nothing is assumed about what nobody measured."""
    blind = msgspec.structs.replace(
        manifest, variants={name: msgspec.structs.replace(info, accuracy={}) for name, info in manifest.variants.items()}
    )
    assert forms(blind, "fp32", 0) == [("fp32", 0)]


def test_another_build_is_another_version(manifest: Manifest) -> None:
    """One segment's hash is enough; reference times do not count."""
    info = manifest.variants["fp32"]
    name, file = next(iter(info.segments.items()))
    changed = msgspec.structs.replace(info, segments={**info.segments, name: msgspec.structs.replace(file, sha256="0" * 64)})
    slower = msgspec.structs.replace(info, stage_reference_s=tuple(2 * s for s in info.stage_reference_s))
    version = content_version(manifest)
    assert content_version(msgspec.structs.replace(manifest, variants={**manifest.variants, "fp32": changed})) != version
    assert content_version(msgspec.structs.replace(manifest, variants={**manifest.variants, "fp32": slower})) == version


def test_questions_about_forms_that_do_not_exist_are_refused(manifest: Manifest) -> None:
    """An exit the model lacks, or a cut before the input."""
    with pytest.raises(UnknownModel, match="no exit 7"):
        forms(manifest, "fp32", 7)
    with pytest.raises(InvalidInput, match="must be >= 0"):
        forms(manifest, "fp32", 0, stage=-1)


def test_leaving_early_is_a_question_of_its_own(manifest: Manifest) -> None:
    """Its last exit's answer may serve it, its own serves nobody that asked for that exit."""
    decision = Decision(model=manifest.model, variant="fp32", cuts=(0, 0), exit=1, early_exit=True)
    early = question_of(manifest, decision, tenant="a")
    whole = question_of(manifest, msgspec.structs.replace(decision, early_exit=False), tenant="a")
    assert early.early_exit
    assert [(one.variant, one.exit, one.early_exit) for one in acceptable(manifest, early)] == [
        ("fp32", 1, True),
        ("fp32", 2, False),
        ("int8", 2, False),
        ("fp32", 1, False),
    ]
    assert early not in acceptable(manifest, whole)


def test_other_weights_or_thresholds_are_another_version(manifest: Manifest) -> None:
    """Large weights live in a file of their own: retrained, a model with the same segments must not serve old answers."""
    info = manifest.variants["fp32"]
    assert info.weights is not None
    weights = msgspec.structs.replace(info.weights, sha256="0" * 64)
    versions = {content_version(manifest)}
    for changed in (msgspec.structs.replace(info, weights=weights), msgspec.structs.replace(info, exit_thresholds=(0.1, 0.1))):
        versions.add(content_version(msgspec.structs.replace(manifest, variants={**manifest.variants, "fp32": changed})))
    assert len(versions) == 3


def test_what_a_codec_takes_away_is_part_of_the_question(manifest: Manifest) -> None:
    """An answer of lossy tensors serves no question about whole ones; a whole form's answer serves a lossy question."""
    whole = Decision(model=manifest.model, variant="fp32", cuts=(2, 4), exit=2)
    lossy = msgspec.structs.replace(whole, codec="int8")
    asked, exact = (question_of(manifest, decision, tenant="a") for decision in (lossy, whole))
    assert (asked.codec, asked.lossy_cuts) == ("int8", (2, 4))
    assert exact in acceptable(manifest, asked)
    assert asked not in acceptable(manifest, exact)


@pytest.mark.parametrize(
    ("codec", "cuts", "stage", "lossy_cuts"),
    [
        ("int8", (0, 0), 0, (0,)),  # the raw input is encoded on the device
        ("int8", (0, 3), 0, (0, 3)),
        ("int8", (2, 4), 2, (4,)),  # those of cut 2 came encoded
        ("int8", (2, 2), 2, ()),
        ("int8+zstd", (2, 7), 0, (2,)),  # the second cut is the end: nothing crosses the wan
        ("int8", (7, 7), 0, ()),  # nothing leaves the device
        ("identity+zstd", (2, 4), 0, ()),  # nothing is lost
    ],
)
def test_lossy_cuts_by_hand(manifest: Manifest, codec: str, cuts: tuple[int, int], stage: int, lossy_cuts: tuple[int, ...]) -> None:
    """Only what is still to be encoded from this stage on counts."""
    decision = Decision(model=manifest.model, variant="fp32", cuts=cuts, exit=2, codec=codec)
    assert manifest.end(decision) == 7
    assert lossy_cuts_of(decision, manifest.end(decision), stage) == lossy_cuts
