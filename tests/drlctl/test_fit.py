"""`drlctl fit`, start to end, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drlctl.processes import run_cli

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


def test_what_no_job_can_be_is_refused_before_a_node_starts() -> None:
    """With the name of the setting and what is allowed there."""
    for options, code, said in (
        (("--architecture", "star"), 78, "Invalid enum value 'star'"),
        (("--tau", "often"), 2, "a number of steps, or adaptive"),
        (("--architecture", "gossip", "--base", "own"), 78, "'gossip' has no knowledge transfer"),
        (("--secure", "--aggregator", "krum"), 78, "aggregator 'krum' compares single updates"),
        (("--freeze", "2"), 78, "a base needs a checkpoint"),
        (("--edges", "9"), 78, "9 edges have no device each"),
        (("--resume", "/nowhere"), 65, "is not a run folder"),
    ):
        ran = run_cli("fit", "calm", *options)
        assert ran.returncode == code, (options, ran.stderr)
        assert said in ran.stderr
