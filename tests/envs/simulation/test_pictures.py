"""Both simulators look at the pictures that live requests bring: of a large split, the played ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from envs.costs import legal_decisions
from envs.scenario import NO_TECHNIQUES, Scenario
from envs.simulators import simulated_system
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.models.examples import Examples, save_examples
from runtime.models.played import MAX_PLAYED
from runtime.profile import Profile, VariantProfile
from tests.envs.profiles import NUM_EXAMPLES, make_profile
from tests.envs.simulation.events.plays import steady, with_tier

NUM_PICTURES = MAX_PLAYED + 500
CAMERA = steady(20.0, num_requests=40, frames_per_picture=6.0, stream="camera")


def of_many(info: VariantProfile) -> VariantProfile:
    """The same judged on as many examples as are played."""
    correct = {split: tuple(bits * (MAX_PLAYED // NUM_EXAMPLES) for bits in rows) for split, rows in info.correct.items()}
    return msgspec.structs.replace(info, correct=correct)


@pytest.fixture
def profile() -> Profile:
    plain = make_profile()
    return msgspec.structs.replace(plain, variants={name: of_many(info) for name, info in plain.variants.items()})


@pytest.fixture
def large_splits(digits_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache whose digits-cnn has more pictures in a split than are played."""
    folder = tmp_path / "models" / digits_model.name
    shutil.copytree(digits_model, folder)
    images = np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, 1, 1, 64, 64), dtype=np.uint8)
    examples = Examples(images=images, labels=np.arange(NUM_PICTURES) % 10)
    save_examples(folder, {"validation": examples, "test": examples}, {"validation": {}, "test": {}})
    monkeypatch.setenv("DRLCTL_CACHE", str(tmp_path))


@pytest.mark.usefixtures("large_splits")
@pytest.mark.parametrize(
    "scenario",
    [
        with_tier(CAMERA, "device", filter=FilterConfig(threshold=1.0, max_age_s=60.0)),
        with_tier(CAMERA, "edge", cache=CacheConfig(max_distance=4)),
    ],
    ids=["filter, vectorised", "similar cache, by events"],
)
def test_a_large_split_is_looked_at_as_it_is_played(scenario: Scenario, profile: Profile) -> None:
    """A profile of the played pictures fits, and what shows the same again is reused."""
    edge_only = legal_decisions(profile, NO_TECHNIQUES)[0]
    system = simulated_system(scenario, profile, split="test")
    outcomes = system.replay(3, dict.fromkeys(range(40), edge_only))
    assert {outcome.reused for outcome in outcomes} & {"filter-unchanged", "cache-exact", "cache-similar"}
