"""A built model's predictor: fitted on validation, judged on test, refused when it is of other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.errors import InvalidInput, InvalidPredictor
from runtime.inference.cache import content_version
from runtime.inference.difficulty import from_levels, save_difficulty
from runtime.inference.scores import brier
from runtime.look_profiler import profile_difficulty
from runtime.models.difficulty import DIFFICULTY_NAME, can_tell, ensure_difficulty, fit_difficulty, read_difficulty
from runtime.models.examples import EXAMPLES_NAME, load_examples, load_judgement
from runtime.models.manifest import MANIFEST_NAME, load_manifest
from runtime.models.measuring import write_manifest


@pytest.fixture(scope="module")
def directory(digits_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model's manifest and examples, and no predictor yet."""
    copy = tmp_path_factory.mktemp("model")
    for name in (MANIFEST_NAME, EXAMPLES_NAME):
        shutil.copy(digits_model / name, copy)
    return copy


def test_what_is_claimed_of_real_digits_is_so(directory: Path) -> None:
    """Of pictures that nothing was fitted on: the first exit's errors are told better than by chance, and by no exit in use
    much worse than the base rate does; what is told of each is what a device tells."""
    fitted = fit_difficulty(directory)
    card, manifest = fitted.predictor.card, load_manifest(directory)
    assert (card.model, card.version) == (manifest.model, content_version(manifest))
    assert [(exit.variant, exit.exit) for exit in card.exits] == [(name, exit) for name in manifest.variants for exit in range(3)]
    first = card.exits[0]
    assert first.predicted
    assert (first.auc or 0) > 0.6
    assert first.log_loss < first.base_log_loss
    images = load_examples(directory, "test").images
    told = np.array([fitted.predictor.predict(image) for image in images]).T
    np.testing.assert_array_equal(told, from_levels(fitted.levels["test"]))
    for (variant, exit), probabilities in zip(fitted.predictor.targets, told, strict=True):
        wrong = load_judgement(directory, "test", variant).correct[exit] == 0
        right = load_judgement(directory, "validation", variant).correct[exit]
        assert brier(probabilities, wrong) < 1.05 * brier(np.full(len(wrong), 1 - right.mean()), wrong)


def test_fitting_again_finds_the_same(directory: Path) -> None:
    """No chance is left in it, so that a device and a profile agree whoever fitted first."""
    known, again = ensure_difficulty(directory), fit_difficulty(directory).predictor
    features = np.random.default_rng(0).normal(size=(50, len(known.models[0].mean)))
    assert known.card == again.card
    np.testing.assert_array_equal(known.from_features(features), again.from_features(features))


def test_it_is_fitted_when_needed(directory: Path) -> None:
    """Where it is corrupt, and where it is of other weights; reading alone refuses these."""
    path, good = directory / DIFFICULTY_NAME, ensure_difficulty(directory)
    path.write_bytes(b"no predictor")
    with pytest.raises(InvalidPredictor):
        read_difficulty(directory)
    save_difficulty(msgspec.structs.replace(good, card=msgspec.structs.replace(good.card, version="other")), path)
    with pytest.raises(InvalidPredictor, match="other weights"):
        read_difficulty(directory)
    assert ensure_difficulty(directory).card == good.card == read_difficulty(directory).card


def test_only_pictures_of_bytes_have_a_difficulty(directory: Path, tmp_path: Path) -> None:
    """A model that does not classify is refused in words, and its profile holds none."""
    manifest = load_manifest(directory)
    write_manifest(msgspec.structs.replace(manifest, classes=()), tmp_path)
    assert can_tell(manifest)
    assert not can_tell(load_manifest(tmp_path))
    assert profile_difficulty(tmp_path, 1.0) is None
    with pytest.raises(InvalidInput, match="switch it off"):
        fit_difficulty(tmp_path)


def test_profiles_hold_what_a_device_tells(directory: Path) -> None:
    """Of every test example, digit for digit; and how long a device of that speed looks."""
    profiled = profile_difficulty(directory, 10.0)
    assert profiled is not None
    assert profiled.targets == read_difficulty(directory).targets
    images = load_examples(directory, "test").images
    assert {len(row) for row in profiled.predicted["test"]} == {3 * len(images)}
    for index in (0, 7, len(images) - 1):
        told = tuple(int(row[3 * index : 3 * index + 3], 16) / 4095 for row in profiled.predicted["test"])
        assert told == read_difficulty(directory).predict(images[index])
    assert profiled.look_s > 0
