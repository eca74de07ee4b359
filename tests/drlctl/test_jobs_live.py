"""Jobs on a cloud, an edge and one device: their rounds are profiled, and a root that dies for good ends them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from drlctl.fit_playing import play_job, play_rest
from drlctl.fitting import fit_running
from drlctl.job_profiling import job_lines, profile_job_live
from drlctl.state import RunningState, own_start_s, write_state
from drlctl.systems import PublishedSystem
from drlctl.watching import Watch
from envs.job_config import JobConfig
from envs.live_job import LiveJob
from envs.scenario import load_scenario
from experiments.fit_run import FitLedger
from experiments.runs import RunFolder
from runtime.errors import InvalidConfig, InvalidInput, PeerLost, SystemFailure
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import DataSpec, FitJob, LocalSpec, NetworkSpec, TauSpec
from runtime.profile import LinkProfile
from runtime.topology import Topology
from runtime.training.job_profile import job_digest
from runtime.training.places import assign_roles
from runtime.training.session import FitSession

JOB = FitJob(
    name="one",
    network=NetworkSpec(factory="runtime.models.networks.compact:compact_mlp", arguments={"hidden_size": 16}),
    data=DataSpec(num_clients=1),
    rounds=10_000,
    local=LocalSpec(batch_size=4),
    tau=TauSpec(tau=1),
)
UPLINK = LinkProfile(rate_bytes_per_s=1e6, delay_s=0.01)


@pytest.fixture(scope="module")
def running(digits_model: Path) -> Iterator[RunningNodes]:
    """Cloud, edge and device."""
    with launch_nodes(Topology(), digits_model, preload=False) as running:
        yield running


@pytest.fixture
def nodes(running: RunningNodes) -> RunningNodes:
    """The same; whoever was killed has been started again."""
    for name in filter(running.has_ended, list(running.processes)):
        running.restart(name)
    return running


def published(nodes: RunningNodes) -> RunningState:
    """What other commands would know of them."""
    return RunningState(
        scenario="calm", model="digits-cnn", model_dirs=(), pid=os.getpid(), started_at_s=own_start_s(), addresses=nodes.addresses
    )


@pytest.mark.slow
def test_live_rounds_become_the_profile_of_a_job(nodes: RunningNodes) -> None:
    """Times and bytes of rounds as they were, and a model of the loss that is judged on runs it was not fitted to."""
    calm = load_scenario("calm")
    taus = JobConfig(taus=(1, 2), num_recordings=1, held_out_tau=3, record_s=2)
    scenario = msgspec.structs.replace(calm, topology=Topology(), fit=JOB, job=taus)
    told: list[str] = []
    measured = profile_job_live(scenario, nodes, UPLINK, lambda text, share: told.append(text))
    assert measured is not None
    assert told == [f"recording rounds of {taus} for 2 s" for taus in ("drawn taus", "drawn taus", "tau 3")]
    assert measured.digest == job_digest(JOB)
    assert 0 < measured.step_s < 1
    assert 0 < 0.5 * measured.down_bytes < measured.up_bytes < 2 * measured.down_bytes  # both are the weights
    assert [off.held_out for off in measured.errors] == [False, True, True]
    assert all(off.num_rounds > 0 and off.mean_relative <= off.worst_relative for off in measured.errors)
    assert measured.errors[-1].tau == 3
    assert "tau 3 (held out)" in job_lines(measured)[-1]


def test_a_scenario_without_a_job_has_no_profile_of_one(nodes: RunningNodes) -> None:
    """Nothing is asked of its nodes."""
    assert profile_job_live(load_scenario("calm"), nodes, UPLINK, lambda text, share: None) is None


def test_a_job_that_fails_beside_requests_is_told_once(nodes: RunningNodes, capsys: pytest.CaptureFixture[str]) -> None:
    """`drlctl up` goes on serving, and does not keep it to itself; a node that ends is its end."""
    bad = msgspec.structs.replace(JOB, compressor="zip")
    with LiveJob(bad, assign_roles(bad, nodes.upstreams, nodes.addresses)) as job:
        watch = Watch(PublishedSystem(nodes, published(nodes), job))
        watch()
        with pytest.raises(SystemFailure):
            job.begin(0)
        watch()
        watch()
    assert capsys.readouterr().err.count("compressor 'zip' does not exist") == 1


@pytest.mark.slow
def test_a_job_on_a_running_system_leaves_its_nodes_free(nodes: RunningNodes, tmp_path: Path) -> None:
    """Whether it was interrupted, refused by a node, or done: the next one is not told that they are busy."""
    write_state(published(nodes), tmp_path / "running.json")

    def interrupt(text: str, share: float) -> None:
        if "round 1 " in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_running(JOB, tmp_path / "running.json", interrupt)
    with pytest.raises(InvalidInput, match="cannot import 'nowhere'"):
        fit_running(msgspec.structs.replace(JOB, network=NetworkSpec(factory="nowhere:nothing")), tmp_path / "running.json", interrupt)
    run = fit_running(msgspec.structs.replace(JOB, rounds=2), tmp_path / "running.json", lambda text, share: None)
    assert [(job.name, job.rounds) for job in run.jobs] == [("one", 2)]
    with pytest.raises(InvalidConfig, match="one device is the only client"):
        fit_running(FitJob(secure_aggregation=True), tmp_path / "running.json", interrupt)


@pytest.mark.slow
def test_a_comparison_leaves_out_what_its_nodes_refuse_and_what_fails(
    nodes: RunningNodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, and the others are played; interrupted it goes on with those that had no turn.  A job alone is refused."""
    _, bad, wild, last = jobs = [msgspec.structs.replace(JOB, name=name, rounds=1) for name in ("first", "bad", "wild", "last")]
    jobs[1] = bad = msgspec.structs.replace(bad, compressor="zip")
    jobs[2] = msgspec.structs.replace(wild, local=LocalSpec(learning_rate=1e38), max_failed_rounds=1, tau=TauSpec(tau=3))
    folder = RunFolder(tmp_path)

    def interrupt_the_last(text: str, share: float) -> None:
        if text.startswith("last: nodes load"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_rest(nodes, FitLedger(folder, jobs, ()), interrupt_the_last)
    ledger = FitLedger(folder, jobs, ())
    assert ledger.to_play == (last,)
    play_rest(nodes, ledger, lambda text, share: None)
    assert [(job.name, job.rounds) for job in ledger.run.jobs] == [("first", 1), ("last", 1)]
    reasons = {one.name: one.reason for one in ledger.run.left_out}
    assert "compressor 'zip' does not exist" in reasons["bad"]
    assert "1 rounds failed in a row" in reasons["wild"]
    assert f"bad is left out: {reasons['bad']}" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="compressor 'zip' does not exist"):
        play_rest(nodes, FitLedger(RunFolder(tmp_path / "alone"), [bad], ()), lambda text, share: None)


@pytest.mark.slow
def test_a_job_ends_soon_after_its_root(nodes: RunningNodes) -> None:
    """kill -9 of the cloud, whom nobody starts again: its process is known to be gone, so that no patience is spent on it."""

    def kill_at_first_round(text: str, share: float) -> None:
        if "round 1 " in text:
            nodes.processes["cloud"].signal(signal.SIGKILL)

    with pytest.raises(SystemFailure, match=r"cloud node ended by signal 9 .*; so cloud has ended, and job 'one' does not go on"):
        play_job(nodes, JOB, kill_at_first_round)


@pytest.mark.slow
def test_nobody_waits_for_nodes_to_load_a_job_that_is_given_up(nodes: RunningNodes) -> None:
    """Ctrl-C meanwhile ends a system soon, and not when a node is ready that may need two minutes for it."""
    with FitSession(JOB, assign_roles(JOB, nodes.upstreams, nodes.addresses), nodes.has_ended) as session:
        session.stop()  # answered: all are connected
        nodes.processes["device"].signal(signal.SIGSTOP)
        try:
            with pytest.raises(PeerLost, match="job 'one' was given up"):
                session.start(given_up=lambda: True)
        finally:
            nodes.processes["device"].signal(signal.SIGCONT)
        session.stop()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["edge", "device"])
def test_a_job_ends_soon_after_its_last_client(nodes: RunningNodes, victim: str) -> None:
    """Or after the edge that it is below: no round can come, and nobody waits for three deadlines to learn it."""

    def kill_at_first_round(text: str, share: float) -> None:
        if "round 1 " in text:
            nodes.processes[victim].signal(signal.SIGKILL)

    with pytest.raises(SystemFailure, match=rf"{victim} node ended by signal 9 .*; so job 'one' has no client left"):
        play_job(nodes, JOB, kill_at_first_round)
