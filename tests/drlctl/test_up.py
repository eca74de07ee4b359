"""A whole system as users run it: `drlctl up`, `drlctl serve`, `drlctl infer`, and what is left when they die."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from agents.bundle import save_bundle
from drlctl.asking import parse_decision, parts
from envs.scenario import load_scenario
from runtime.errors import InvalidDecision, UnknownModel
from runtime.messages import Breakdown, Outcome
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.profile import save_profile
from runtime.session import Session
from runtime.transport import Context
from tests.drlctl.bundles import make_bundle
from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import ANSWER_LIMIT_S, ENVIRONMENT, daemon, run_cli, until
from tests.envs.profiles import make_profile

SCENARIO = """
name = "real"
model = "digits-cnn"
[topology]
telemetry_period_s = 0.05
decision_budget_s = 0.2
"""


@pytest.fixture
def scenario_path(tmp_path: Path) -> Path:
    """A scenario without emulation."""
    path = tmp_path / "real.toml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture
def picture(tmp_path: Path, digits_model: Path) -> tuple[Path, str]:
    """A test picture as a PNG file, and what it shows."""
    examples = load_examples(digits_model, "test")
    Image.fromarray(examples.images[0, 0, 0]).save(tmp_path / "digit.png")
    return tmp_path / "digit.png", load_manifest(digits_model).classes[examples.labels[0]]


class Up:
    """`drlctl up` as a child process."""

    def __init__(self, scenario: Path, state: Path, *options: str) -> None:
        command = [sys.executable, "-m", "drlctl", "up", str(scenario), "--state", str(state), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        self.ready = json.loads(line)
        self.nodes = [psutil.Process(pid) for pid in self.ready["pids"].values()]


@contextlib.contextmanager
def up(scenario: Path, state: Path, *options: str) -> Iterator[Up]:
    """A running system, ended afterwards whatever happens."""
    running = Up(scenario, state, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.process.communicate()


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_picture_through_a_running_system(
    digits_model: Path, scenario_path: Path, tmp_path: Path, picture: tuple[Path, str], run_here: RunHere
) -> None:
    """`infer` finds the running system, answers rightly, says where the time went, and obeys a decision; SIGTERM ends all."""
    state = tmp_path / "running.json"
    with up(scenario_path, state) as running:
        done = run_cli("infer", str(picture[0]), "--state", str(state), "--no-crop", "--no-smooth", "--json")
        answer = json.loads(done.stdout)
        assert (done.returncode, answer["answer"]) == (0, picture[1])
        assert answer["outcome"]["decided_by"] == "fallback"
        assert answer["emulated"] is False
        told = run_cli("infer", str(picture[0]), "--address", running.ready["addresses"]["device"], "--decision", "int8/2,5/1")
        assert told.returncode == 0
        assert "int8 x1 d2-e5" in told.stdout
        assert "edge compute" in told.stdout
        bad = run_here("infer", str(picture[0]), "--state", str(state), "--decision", "fp32/2,6/1", cwd=tmp_path)
        assert bad.returncode == 65
        again = run_here("up", str(scenario_path), "--state", str(state), cwd=tmp_path)
        assert again.returncode == 78
        assert str(running.process.pid) in again.stderr
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(ANSWER_LIMIT_S) == 0
    assert not state.exists()
    assert all(gone(node) for node in running.nodes)


def test_a_killed_launcher_leaves_nothing(
    digits_model: Path, scenario_path: Path, tmp_path: Path, picture: tuple[Path, str], run_here: RunHere
) -> None:
    """After kill -9 nodes and controller end by themselves, and the state file is known to be stale."""
    save_bundle(make_bundle(), tmp_path / "bundle")
    state = tmp_path / "running.json"
    with up(scenario_path, state, "--bundle", str(tmp_path / "bundle")) as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert len(children) == 4
        running.process.kill()
        running.process.wait()
        until(lambda: all(gone(child) for child in children))
        assert state.exists()
        assert run_here("infer", str(picture[0]), "--state", str(state), cwd=tmp_path).returncode == 69


def test_the_device_falls_back_to_greedy_when_its_controller_hangs(
    digits_model: Path, scenario_path: Path, tmp_path: Path, picture: tuple[Path, str]
) -> None:
    """A stopped daemon costs one decision budget per request: greedy decides, it is counted; a live daemon decides again."""
    scenario = load_scenario(scenario_path)
    save_profile(make_profile(scenario), tmp_path / "profile.json")
    save_bundle(make_bundle(), tmp_path / "bundle")
    state, image = tmp_path / "running.json", load_examples(digits_model, "test").images[0]
    with (
        daemon(tmp_path / "bundle") as controller,
        up(scenario_path, state, "--controller", controller.address, "--profile", str(tmp_path / "profile.json")) as running,
        Context() as context,
        Session(context, running.ready["addresses"]["device"]) as session,
    ):
        until(lambda: session.infer("digits-cnn", image, 5.0).decided_by == "controller")
        controller.signal(signal.SIGSTOP)
        before = session.status().counters
        outcome = session.infer("digits-cnn", image, 5.0)
        after = session.status().counters
        assert (outcome.status, outcome.decided_by) == ("ok", "fallback")
        assert after["decision_timeouts"] == before.get("decision_timeouts", 0) + 1
        assert outcome.breakdown.decision_s >= scenario.topology.decision_budget_s
        assert outcome.decision is not None
        # fp32 all on the device is what a device without greedy falls back to, and never greedy's choice
        assert (outcome.decision.variant, outcome.decision.cuts) != ("fp32", (7, 7))
        controller.signal(signal.SIGCONT)
        until(lambda: session.infer("digits-cnn", image, 5.0).decided_by == "controller")


def test_a_bundle_can_come_up_with_the_system(digits_model: Path, scenario_path: Path, tmp_path: Path, picture: tuple[Path, str]) -> None:
    """`up --bundle` serves it too, the device asks it, and everything ends together."""
    save_bundle(make_bundle(), tmp_path / "bundle")
    state = tmp_path / "running.json"
    with up(scenario_path, state, "--bundle", str(tmp_path / "bundle")) as running:
        done = run_cli("infer", str(picture[0]), "--state", str(state), "--json")
        assert json.loads(done.stdout)["outcome"]["decided_by"] == "controller"
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(ANSWER_LIMIT_S) == 0
    assert all(gone(node) for node in running.nodes)


def test_a_profile_of_another_topology_is_refused(digits_model: Path, scenario_path: Path, tmp_path: Path, run_here: RunHere) -> None:
    """Predicting with another system's times would be worse than not predicting."""
    save_profile(make_profile(), tmp_path / "profile.json")
    profile, state = str(tmp_path / "profile.json"), str(tmp_path / "x.json")
    done = run_here("up", str(scenario_path), "--profile", profile, "--state", state, cwd=tmp_path)
    assert done.returncode == 65
    assert "drlctl profile" in done.stderr


def test_one_node_by_hand(digits_model: Path, tmp_path: Path) -> None:
    """`drlctl node` serves one tier until SIGTERM, says where, imitates nothing unless asked to, and needs no policy in the cloud."""
    command = [sys.executable, "-m", "drlctl", "node", "--tier", "cloud", "--listen", "tcp://127.0.0.1:*"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        with Context() as context, Session(context, ready["address"]) as session:
            status = session.status()
        process.terminate()
        process.communicate(timeout=ANSWER_LIMIT_S)
    finally:
        process.kill()
    assert (status.tier, status.pid, status.emulated) == ("cloud", process.pid, False)
    assert process.returncode == 0


@pytest.mark.parametrize("text", ["", "fp32", "fp32/1/2", "fp32/1,2", "fp32/-1,2/0", "fp32/5,2/1", "fp32/1,2/9", "fp32/1,9/2"])
def test_a_decision_that_cannot_be_is_refused(digits_model: Path, text: str) -> None:
    """Malformed, impossible for any model, or for this one."""
    with pytest.raises(InvalidDecision):
        parse_decision(text, load_manifest(digits_model))


def test_an_unknown_variant_is_named(digits_model: Path) -> None:
    """The message says which variants there are."""
    with pytest.raises(UnknownModel, match="int8"):
        parse_decision("fp8/1,2/2", load_manifest(digits_model))


def test_the_parts_are_told_in_their_order() -> None:
    """Names follow the request's way, and what took no time is left out."""
    breakdown = Breakdown(client_s=0.1, compute_s=(0.2, 0.3, 0.0), transfer_s=(0.4, 0.0), postprocess_s=0.5)
    named = parts(Outcome(request_id=1, status="ok", breakdown=breakdown))
    assert named == [("client", 0.1), ("device compute", 0.2), ("uplink transfer", 0.4), ("edge compute", 0.3), ("postprocess", 0.5)]
    assert sum(seconds for _, seconds in named) == pytest.approx(breakdown.total_s())
