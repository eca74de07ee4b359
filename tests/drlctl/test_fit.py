"""`drlctl fit`, start to end, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from drlctl.fitting import blame_the_dead, check_jobs, resume
from runtime.errors import DrlctlError, InvalidConfig, InvalidDataset, InvalidInput, PeerLost, SystemFailure
from runtime.launch import Process, RunningNodes
from runtime.messages import DataSpec, FitJob, TransferSpec
from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import run_cli, until

SCENARIO = """
name = "bare"
[fit]
rounds = 2
local = { learning_rate = 0.05 }
tau = { tau = 2 }
data = { num_clients = 1 }
network = { arguments = { width = 0.25 } }
"""


@pytest.mark.slow
def test_a_job_is_trained_and_kept(digits_model: Path, tmp_path: Path) -> None:
    """Its KPIs are printed and written."""
    scenario = tmp_path / "bare.toml"
    scenario.write_text(SCENARIO)
    ran = run_cli("fit", str(scenario), "--compressor", "qsgd8", "--out", str(tmp_path), "--name", "one", "--json", timeout_s=110)
    assert ran.returncode == 0, ran.stderr
    (job,) = json.loads(ran.stdout)["jobs"]
    assert (job["rounds"], job["num_clients"], job["compressor"], job["tau"]) == (2, 1, "qsgd8", "fixed 2")
    assert 0 < job["uplink_up_bytes"] < job["uplink_down_bytes"]
    assert job["seconds"] >= job["compute_s"] + job["transfer_s"] + job["waiting_s"] - 0.01  # joining and evaluating besides
    assert json.loads((tmp_path / "one" / "summary.json").read_text())["jobs"] == [job]
    assert len((tmp_path / "one" / "rounds.jsonl").read_text().splitlines()) == 2


def test_what_no_job_can_be_is_refused_before_a_node_starts(run_here: RunHere, tmp_path: Path) -> None:
    """With the name of the setting and what is allowed there."""
    for options, code, said in (
        (("--architecture", "star"), 78, "Invalid enum value 'star'"),
        (("--tau", "often"), 2, "a number of steps, or adaptive"),
        (("--architecture", "gossip", "--base", "own"), 78, "'gossip' has no knowledge transfer"),
        (("--secure", "--aggregator", "krum"), 78, "aggregator 'krum' compares single updates"),
        (("--freeze", "2"), 78, "a base needs a checkpoint"),
        (("--edges", "9"), 78, "9 edges have no device each"),
        (("--resume", "/nowhere"), 2, "leave out SCENARIO"),
        (("--running", "--compare", "--name", "one"), 2, "leave out --compare, --name"),
    ):
        ran = run_here("fit", "calm", *options, cwd=tmp_path)
        assert ran.returncode == code, (options, ran.stderr)
        assert said in ran.stderr


@pytest.mark.parametrize(
    ("job", "kind", "said"),
    [
        (FitJob(compressor="zip"), InvalidConfig, "compressor 'zip' does not exist"),
        (FitJob(aggregator="sum"), InvalidConfig, "aggregator 'sum' does not exist"),
        (FitJob(data=DataSpec(source="/nowhere")), InvalidDataset, "no data set '/nowhere'"),
        (FitJob(data=DataSpec(source="sensors:/nowhere")), InvalidDataset, "cannot read the archive /nowhere"),
        (FitJob(data=DataSpec(partition="subject")), InvalidConfig, "only the phone-sensor set"),
        (FitJob(transfer=TransferSpec(checkpoint="/nowhere")), InvalidConfig, "no base at '/nowhere'"),
    ],
)
def test_what_every_node_would_refuse_is_refused_before_one_starts(job: FitJob, kind: type[DrlctlError], said: str) -> None:
    """A misspelt name or path costs a second, and not the half minute in which ten processes import torch."""
    with pytest.raises(kind, match=said):
        check_jobs((FitJob(), job))


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    """Whatever is missing is named."""
    with pytest.raises(InvalidInput, match="is not a run folder"):
        resume(tmp_path, lambda text, share: None)


def test_where_a_node_has_ended_its_last_words_are_told() -> None:
    """They say why an address is silent; where all nodes live, the silence is all that is known."""
    dying = "import sys; print('{\"ready\": true}', flush=True); sys.exit('out of memory')"
    killed = "import os; print('{\"ready\": true}', flush=True); os.kill(os.getpid(), 9)"
    with RunningNodes() as nodes:
        blame_the_dead(nodes, PeerLost("tcp://x did not answer"))
        nodes.processes["cloud"] = process = Process([sys.executable, "-c", dying], name="cloud node")
        until(lambda: not process.alive)
        with pytest.raises(SystemFailure, match="cloud node ended with exit code 1: out of memory; so tcp://x did not answer"):
            blame_the_dead(nodes, PeerLost("tcp://x did not answer"))
        process.stop()
        nodes.processes["cloud"] = process = Process([sys.executable, "-c", killed], name="cloud node")
        until(lambda: not process.alive)
        with pytest.raises(SystemFailure, match=r"cloud node ended by signal 9 \(Killed\): it said nothing; so"):
            blame_the_dead(nodes, PeerLost("tcp://x did not answer"))
