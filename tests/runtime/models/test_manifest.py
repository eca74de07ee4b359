"""What a manifest refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime.errors import InvalidDecision, InvalidTensor, UnknownModel
from runtime.messages import TIERS, Decision, TensorSpec, Tier
from runtime.models.manifest import MANIFEST_NAME, load_manifest, read_stored


def decision(**changes: object) -> Decision:
    """A decision that digits-cnn can carry out, but for the changes."""
    fields: dict[str, object] = {"model": "digits-cnn", "variant": "int8", "cuts": (1, 3), "exit": 1} | changes
    return Decision(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "other"}, UnknownModel, "'other' is not loaded"),
        ({"variant": "int4"}, UnknownModel, "'int4'.*there is"),
        ({"exit": 3}, InvalidDecision, "exits are 0..2"),
        ({"exit": 0, "cuts": (0, 4)}, InvalidDecision, "ends after 3 stages"),
        ({"codec": "zip"}, InvalidDecision, "codec 'zip'"),
    ],
)
def test_impossible_decisions_are_refused(digits_model: Path, changes: dict[str, object], error: type[Exception], message: str) -> None:
    """Each thing a model cannot do has its own error, which says what it can."""
    with pytest.raises(error, match=message):
        load_manifest(digits_model).check(decision(**changes))


def test_possible_decisions_pass(digits_model: Path) -> None:
    """Every cut up to the exit's end is possible."""
    manifest = load_manifest(digits_model)
    for exit, end in enumerate(manifest.exit_ends):
        manifest.check(decision(exit=exit, cuts=(0, end)))
        manifest.check(decision(exit=exit, cuts=(end, end)))


def test_segments_of_a_tier_are_those_that_decisions_give_it(digits_model: Path) -> None:
    """Enumerating every decision finds the same pieces, no more and no fewer."""
    manifest = load_manifest(digits_model)
    given: dict[Tier, set[tuple[int, int, int | None]]] = {tier: set() for tier in TIERS}
    for exit, end in enumerate(manifest.exit_ends):
        for q in range(end + 1):
            for p in range(q + 1):
                one = decision(exit=exit, cuts=(p, q))
                for tier in TIERS:
                    start, stop = manifest.stage_range(one, tier)
                    if start < stop:
                        given[tier].add((start, stop, exit if stop == end else None))
    for tier in TIERS:
        assert len(manifest.segments(tier)) == len(given[tier])
        assert set(manifest.segments(tier)) == given[tier]
    assert set(manifest.segments()) == set.union(*given.values())


@pytest.mark.parametrize(
    "specs",
    [
        (),
        (TensorSpec(shape=(1, 16, 32, 32), dtype="float32"),),
        (TensorSpec(shape=(1, 16, 32), dtype="uint8"),),
        (TensorSpec(shape=(1, 16, 32, 32), dtype="uint8"),) * 2,
    ],
)
def test_foreign_tensors_are_refused(digits_model: Path, specs: tuple[TensorSpec, ...]) -> None:
    """Tensors that are not exactly the cut's are refused with both sides named."""
    with pytest.raises(InvalidTensor, match=r"carries uint8\[1, 16, 32, 32\]; got "):
        load_manifest(digits_model).check_tensors("int8", 1, specs)


def test_corrupt_segment_is_refused(digits_model: Path, tmp_path: Path) -> None:
    """One flipped bit in a segment is found before anything of it runs."""
    segment = load_manifest(digits_model).variants["int8"].segments["6-7"]
    copy = tmp_path / segment.path
    copy.parent.mkdir()
    shutil.copy(digits_model / segment.path, copy)
    assert len(read_stored(tmp_path, segment)) == segment.num_bytes
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(UnknownModel, match="corrupt"):
        read_stored(tmp_path, segment)
    copy.unlink()
    with pytest.raises(UnknownModel, match="cannot be read"):
        read_stored(tmp_path, segment)


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"model": 3}', b'{"model": "\xff"}'])
def test_corrupt_manifest_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A missing, cut-off or foreign manifest is one typed error."""
    if content is not None:
        (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(UnknownModel):
        load_manifest(tmp_path)
