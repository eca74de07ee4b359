"""Answers that are given to other inputs than they were computed for, judged by the labels of those who get them."""

from __future__ import annotations

import msgspec

from runtime.inference.cache import CacheConfig
from runtime.messages import Decision
from runtime.profile import Profile
from tests.envs.profiles import make_profile
from tests.envs.simulation.events.plays import DEVICE_ONLY, EDGE_ONLY, SEED, play, steady, with_tier
from tests.envs.simulation.reusing import make_examples

NUM = 120
NOISY = {"zipf_exponent": 1.2, "perturbation": "noise", "perturbed_fraction": 0.7}


def flawless(profile: Profile) -> Profile:
    """The same, always right about what was computed for the very input."""
    variants = {
        name: msgspec.structs.replace(
            info, correct={split: tuple("1" * len(bits) for bits in lines) for split, lines in info.correct.items()}
        )
        for name, info in profile.variants.items()
    }
    return msgspec.structs.replace(profile, variants=variants)


def test_noisy_versions_of_a_picture_share_its_answer() -> None:
    """Sketches of the real pictures are near each other; without a bound on that only equal ones share."""
    scenario = steady(10.0, num_requests=NUM, **NOISY)
    for distance, similar in ((24, True), (None, False)):
        caching = with_tier(scenario, "edge", cache=CacheConfig(max_distance=distance))
        outcomes = play(caching, flawless(make_profile()), SEED, [EDGE_ONLY] * NUM, make_examples()).outcomes
        reused = [outcome.reused for outcome in outcomes]
        assert ("cache-similar" in reused) is similar
        assert "cache-exact" in reused
        assert all(outcome.correct for outcome in outcomes if outcome.status == "ok")


def test_errors_of_sharing_are_counted() -> None:
    """A bound that takes all pictures for one gives everybody the first one's answer: right for those of its class alone."""
    scenario = with_tier(steady(10.0, num_requests=NUM, zipf_exponent=0.1), "device", cache=CacheConfig(max_distance=160))
    examples = make_examples()
    outcomes = play(scenario, flawless(make_profile()), SEED, [DEVICE_ONLY] * NUM, examples).outcomes
    similar = [outcome.correct for outcome in outcomes if outcome.reused == "cache-similar"]
    assert len(similar) > 60
    assert 0.02 < sum(map(bool, similar)) / len(similar) < 0.4
    assert all(outcome.correct for outcome in outcomes if outcome.reused == "no" and outcome.status == "ok")


def test_other_forms_may_serve() -> None:
    """With `any_form` an answer of the more accurate variant serves the other, in the cloud's cache too."""
    whole, small = (Decision(model="digits-cnn", variant=variant, cuts=(0, 0), exit=2) for variant in ("fp32", "int8"))
    for any_form in (True, False):
        scenario = with_tier(steady(10.0, num_requests=60, zipf_exponent=8.0), "cloud", cache=CacheConfig(any_form=any_form))
        outcomes = play(scenario, make_profile(), SEED, [whole] * 30 + [small] * 30).outcomes
        later = [outcome.reused_at for outcome in outcomes[30:33]]
        assert (later[0] == "cloud") is any_form
        assert "cloud" in {outcome.reused_at for outcome in outcomes[:30]}
