"""The live environment, and what LiveSystem does when the world is unkind to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import msgspec
import psutil
import pytest
from gymnasium.utils.env_checker import check_env

import drlctl  # noqa: F401  # registers the environments
from envs.calibration import NUM_REQUESTS, calibrate, calibration_scenario, fit_overheads, residuals
from envs.inputs import InputsConfig
from envs.live import EPISODE_BITS, Episode, LiveSystem, launch_live
from envs.live_job import LiveJob
from envs.make import shipped_profile
from envs.offload import OffloadEnv
from envs.scenario import Scenario, load_scenario
from envs.workload import BACKGROUND_ID, draw_requests
from runtime.errors import SystemFailure
from runtime.inference.cache import CacheConfig
from runtime.look_profiler import profile_difficulty
from runtime.messages import Decision, FitJob, Outcome, Submit, TauSpec
from tests.envs.profiles import looking


def short(num_requests: int = 12, rate_per_s: float = 60.0) -> Scenario:
    """The congested scenario, but brief."""
    scenario = load_scenario("congested")
    workload = msgspec.structs.replace(scenario.workload, num_requests=num_requests, rate_per_s=rate_per_s, burst_rate_per_s=rate_per_s)
    return msgspec.structs.replace(scenario, workload=workload)


def test_gymnasium_accepts_the_live_environment(digits_model: Path) -> None:
    """`check_env` passes on real processes, and closing leaves none of them."""
    others = set(psutil.Process().children())
    with gymnasium.make("drlctl/OffloadLive-v0", scenario=short(), disable_env_checker=True).unwrapped as env:
        assert isinstance(env, OffloadEnv)
        assert len(set(psutil.Process().children()) - others) == 3
        check_env(env)
        env.close()
    assert set(psutil.Process().children()) <= others


def test_a_dead_device_truncates_the_episode(digits_model: Path) -> None:
    """kill -9 of the device amid an episode: truncated with the reason in info, no exception, nothing left running."""
    others = set(psutil.Process().children())
    with gymnasium.make("drlctl/OffloadLive-v0", scenario=short(200), disable_env_checker=True).unwrapped as env:
        assert isinstance(env, OffloadEnv)
        env.reset(seed=1)
        (device,) = [child for child in set(psutil.Process().children()) - others if "device" in " ".join(child.cmdline())]
        os.kill(device.pid, signal.SIGKILL)
        over, info = False, {}
        while not over:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            over = terminated or truncated
        assert truncated
        assert "device node ended by signal 9" in info["error"]
    assert set(psutil.Process().children()) <= others


@pytest.fixture(scope="module")
def live(digits_model: Path) -> Iterator[LiveSystem]:
    """A system between two episodes."""
    with launch_live(short(20), profile=shipped_profile("digits-cnn")) as live:
        yield live


def test_the_world_goes_on_while_the_agent_thinks(live: LiveSystem) -> None:
    """An agent that ponders longer than the device waits loses those requests to the fallback, and they still count."""
    step = live.reset(3)
    outcomes = list(step.outcomes)
    threading.Event().wait(0.4)
    while step.observation is not None:
        step = live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))
        outcomes += step.outcomes
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(20))
    assert sum(outcome.decided_by == "fallback" for outcome in outcomes) >= 5


class LateJob(LiveJob):
    """One that begins only when something has happened."""

    def __init__(self, happened: Callable[[], bool]) -> None:
        super().__init__(FitJob(), {})
        self._happened = happened

    def begin(self, number: int, tau: TauSpec | None = None) -> None:
        """Wait for it."""
        assert self._happened()


def test_an_abandoned_episode_leaves_nothing_to_the_next(live: LiveSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of the old one end while the new one's job begins: none of them is among the new one's outcomes."""

    def one_has_ended() -> bool:
        with live._changed:
            return live._changed.wait_for(lambda: len(live._ended) > 0, 5.0)

    live.reset(4)
    monkeypatch.setattr(live, "job", LateJob(one_has_ended))
    step = live.reset(5)
    outcomes = list(step.outcomes)
    while step.observation is not None:
        step = live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))
        outcomes += step.outcomes
    assert sorted(outcome.request_id for outcome in outcomes) == list(range(20))


def test_ids_on_the_wire_are_those_of_requests(live: LiveSystem) -> None:
    """Of the last episode that can be numbered too, background jobs included; and an episode knows its own."""
    for number in (0, (1 << EPISODE_BITS) - 1):
        episode = Episode(live.scenario, 1, number, live._examples)
        request_id, background_id = episode.wire_id(19), BACKGROUND_ID | episode.wire_id(19)
        for wire_id in (request_id, background_id):
            Submit(request_id=wire_id, model="digits-cnn", deadline_s=1.0)
        assert (episode.index_of(request_id), episode.index_of(background_id)) == (19, None)
        assert (episode.is_background(request_id), episode.is_background(background_id)) == (False, True)
        assert not Episode(live.scenario, 1, number ^ 1, live._examples).is_background(background_id)


def test_deciding_without_a_request_is_an_error(live: LiveSystem) -> None:
    """execute without reset says what is missing."""
    with pytest.raises(SystemFailure, match="call reset first"):
        live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))


@pytest.mark.slow
def test_live_play_brings_repeated_and_varied_pictures(digits_model: Path) -> None:
    """A still scene before a device with a cache: exact hits for the same picture, none where each one is varied for itself."""
    scenario = short(20)
    device = msgspec.structs.replace(scenario.topology.device, cache=CacheConfig())
    topology = msgspec.structs.replace(scenario.topology, device=device)
    shares = []
    for perturbation in ("none", "noise"):
        inputs = InputsConfig(frames_per_picture=1e9, perturbation=perturbation)
        workload = msgspec.structs.replace(scenario.workload, inputs=inputs, rate_per_s=5.0, burst_rate_per_s=5.0, num_requests=8)
        played = msgspec.structs.replace(scenario, topology=topology, workload=workload)
        with launch_live(played, profile=shipped_profile("digits-cnn")) as live:
            step = live.reset(3)
            outcomes = list(step.outcomes)
            while step.observation is not None:
                step = live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))
                outcomes += step.outcomes
        kinds = [outcome.reused for outcome in outcomes if outcome.status == "ok"]
        shares.append(kinds.count("cache-exact") / len(kinds))
    assert shares[0] > 0.5
    assert shares[1] == 0.0


def test_the_device_tells_what_the_profile_says_of_each_picture(digits_model: Path) -> None:
    """Number for number, before each decision; looking is a part of the breakdown, whose parts still tile the latency."""
    scenario, difficulty = looking(short(8, rate_per_s=20.0)), profile_difficulty(digits_model, 1.0)
    profile = msgspec.structs.replace(shipped_profile("digits-cnn"), difficulty=difficulty)
    expected = profile.predicted_errors("test")
    examples = draw_requests(scenario.workload, 3, expected.shape[1]).example
    with launch_live(scenario, profile=profile) as live:
        step = live.reset(3)
        outcomes, told = list(step.outcomes), {}
        while step.observation is not None:
            told[step.observation.request_id] = step.observation.difficulty
            step = live.execute(Decision(model="digits-cnn", variant="int8", cuts=(7, 7), exit=2))
            outcomes += step.outcomes
    assert len(told) >= 4
    for request_id, probabilities in told.items():
        assert probabilities == tuple(expected[:, examples[request_id]].tolist())
    for outcome in outcomes:
        if outcome.status == "ok":
            assert outcome.breakdown.reuse_s[0] > 0
            assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


@pytest.mark.slow
def test_calibration_plays_real_requests_and_fits_overheads_to_them(digits_model: Path) -> None:
    """Requests of all three architectures are played, paired with their simulated twins, and explained by constants >= 0."""
    scenario = load_scenario("congested")
    scenario = msgspec.structs.replace(scenario, evaluation=msgspec.structs.replace(scenario.evaluation, max_repeats=0))
    with launch_live(calibration_scenario(scenario)) as live:
        profile, left = calibrate(shipped_profile("digits-cnn"), scenario, live)
    assert 0 < left.num_requests <= NUM_REQUESTS
    found = profile.overheads
    assert min(found.base_s, found.uplink_s, found.wan_s) >= 0
    assert found.base_s + found.uplink_s > 0  # what a request takes more is one or the other: beside busy neighbours not always both


def ended(request_id: int, latency_s: float, hops: int) -> Outcome:
    """A request that ended well after crossing so many links."""
    return Outcome(request_id=request_id, status="ok", latency_s=latency_s, link_bytes=((0, 0), (9, 0), (9, 9))[hops])


def test_overheads_are_medians_of_what_the_simulator_does_not_explain() -> None:
    """By hand: 2 ms on any request, 3 ms more over the uplink, 4 ms more over the wan; an outlier changes nothing."""
    gaps_s = {0: (0.002, 0.002, 0.5), 1: (0.005, 0.005, 0.4), 2: (0.009, 0.009, 0.3)}
    live, simulated = {}, {}
    for hops, values in gaps_s.items():
        for index, gap_s in enumerate(values):
            request_id = 10 * hops + index
            simulated[request_id] = ended(request_id, 0.1, hops)
            live[request_id] = ended(request_id, 0.1 + gap_s, hops)
    overheads = fit_overheads(live, simulated)
    assert (overheads.base_s, overheads.uplink_s, overheads.wan_s) == pytest.approx((0.002, 0.003, 0.004))
    after = residuals(live, {key: ended(key, 0.1 + (0.002, 0.005, 0.009)[key // 10], key // 10) for key in live})
    assert after.median_abs_s == pytest.approx(0.0, abs=1e-12)
