"""`drlctl fit`, start to end, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from drlctl.fit_checks import check_jobs
from drlctl.fit_playing import blame_the_dead
from drlctl.fitting import fit, how_to_go_on, resume
from envs.scenario import load_scenario
from experiments.fit_run import FitLedger, FitRun
from experiments.runs import JOBS_NAME, create_run
from runtime.errors import DrlctlError, InvalidConfig, InvalidDataset, InvalidInput, PeerLost, SystemFailure
from runtime.launch import Process, RunningNodes
from runtime.messages import DataSpec, FitJob, NetworkSpec, RoundRecord, TransferSpec
from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import ENVIRONMENT, run_cli, until

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
    ran = run_cli(
        "fit", str(scenario), "--compressor", "qsgd8", "--out", str(tmp_path), "--name", "one", "--seed", "3", "--json", timeout_s=110
    )
    assert ran.returncode == 0, ran.stderr
    (job,) = json.loads(ran.stdout)["jobs"]
    assert (job["rounds"], job["num_clients"], job["compressor"], job["tau"]) == (2, 1, "qsgd8", "fixed 2")
    assert 0 < job["uplink_up_bytes"] < job["uplink_down_bytes"]
    assert job["seconds"] >= job["compute_s"] + job["transfer_s"] + job["waiting_s"] - 0.01  # joining and evaluating besides
    assert json.loads((tmp_path / "one" / "summary.json").read_text())["jobs"] == [job]
    assert len((tmp_path / "one" / "rounds.jsonl").read_text().splitlines()) == 2
    (kept,) = json.loads((tmp_path / "one" / JOBS_NAME).read_text())
    assert (kept["seed"], kept["data"]["seed"], kept["local"]["seed"]) == (3, 3, 3000)


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


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (FitJob(architecture="split", cut=6), "cuts must rise between 1 and 5, got \\[6\\]"),
        (FitJob(data=DataSpec(root_fraction=0.2), transfer=TransferSpec(frozen=9)), "9 layers"),
        (FitJob(architecture="split", cut=1, network=NetworkSpec(factory="nowhere:nothing")), "cannot import 'nowhere'"),
    ],
)
def test_stages_that_the_network_does_not_have_are_refused_before_a_node_starts(job: FitJob, said: str) -> None:
    """A job alone, that is: of several, its nodes refuse that one, and the others are played."""
    with pytest.raises(InvalidConfig, match=f"job 'fit' cannot be trained with its network: .*{said}"):
        check_jobs((job,))
    check_jobs((FitJob(), job))


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    """Whatever is missing is named."""
    with pytest.raises(InvalidInput, match="is not a run folder"):
        resume(tmp_path, lambda text, share: None, lambda run: None)


def test_of_a_finished_run_the_table_is_shown_again(run_here: RunHere, tmp_path: Path) -> None:
    """And no node is started for it; what was left out is still said."""
    folder = create_run(tmp_path, load_scenario("calm"), command=["drlctl"], seeds=[0], name="done")
    jobs = (FitJob(name="one"), FitJob(name="other"))
    (folder.path / JOBS_NAME).write_bytes(msgspec.json.encode(jobs))
    record = RoundRecord(round=1, tau=10, at_s=1.0, clients=(), loss=1.0, compute_s=1.0, transfer_s=0.0, waiting_s=0.0)
    ledger = FitLedger(folder, jobs, ())
    ledger.add(jobs[0], [record])
    ledger.leave_out(jobs[1], "no such cut")
    ran = run_here("fit", "--resume", str(folder.path), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "left out: other: no such cut" in ran.stdout
    assert "is finished" in ran.stderr
    assert "starting nodes" not in ran.stderr


def test_a_run_that_ends_early_says_what_is_left_and_how_to_go_on(tmp_path: Path) -> None:
    """Whatever ends it; resumed it is the same again."""
    told: list[FitRun] = []

    def interrupt(text: str, share: float) -> None:
        raise KeyboardInterrupt

    jobs = (FitJob(name="one"), FitJob(name="other"))
    with pytest.raises(KeyboardInterrupt):
        fit(load_scenario("calm"), jobs, root=tmp_path, run_name="early", progress=interrupt, on_unfinished=told.append)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "early", interrupt, told.append)
    assert told == [FitRun(folder=str(tmp_path / "early"), emulated=told[0].emulated, jobs=(), unplayed=("one", "other"))] * 2
    assert "0 of 2 jobs came to their end" in how_to_go_on(told[0])
    assert "nothing of one is saved yet" in how_to_go_on(told[0])
    assert "shows the table again" in how_to_go_on(msgspec.structs.replace(told[0], unplayed=()))
    (tmp_path / "early" / "nodes" / "one" / "cloud").mkdir(parents=True)
    (tmp_path / "early" / "nodes" / "one" / "cloud" / "records.json").touch()
    assert f"--resume {tmp_path / 'early'}` goes on from there" in how_to_go_on(told[0])


@pytest.mark.slow
def test_ctrl_c_ends_a_comparison_and_its_nodes(digits_model: Path, tmp_path: Path) -> None:
    """With the code that says so, and how to go on."""
    command = [sys.executable, "-m", "drlctl", "fit", "calm", "--compare", "--clients", "2", "--out", str(tmp_path), "--name", "cut"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        assert "starting nodes" in process.stderr.readline()
        until(lambda: len(psutil.Process(process.pid).children()) > 0)
        nodes = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60.0)[1]
    assert process.returncode == 130, said
    assert f"`drlctl fit --resume {tmp_path / 'cut'}` begins with it" in said
    assert not any(node.is_running() for node in nodes)


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
