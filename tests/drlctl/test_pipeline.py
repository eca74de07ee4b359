"""From a scenario to a report, as a user types it: profile, train, evaluate, report; and all of it at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import run_cli

SCENARIO = """
name = "small"
model = "digits-cnn"
[topology]
telemetry_period_s = 0.05
decision_budget_s = 2.0
[workload]
deadline_s = 3.0
rate_per_s = 40.0
burst_rate_per_s = 60.0
num_requests = 30
[training]
timesteps = 512
num_envs = 8
[evaluation]
seeds = [5]
num_requests = 15
max_repeats = 0
keep_awake = false
"""
LIMIT_S = 300.0


@pytest.fixture
def scenario_path(tmp_path: Path) -> Path:
    """A scenario that takes seconds: nothing is emulated, little is asked, nobody spins, and there is time for a host that stalls."""
    (tmp_path / "small.toml").write_text(SCENARIO)
    return tmp_path / "small.toml"


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_step_by_step(digits_model: Path, scenario_path: Path, tmp_path: Path, run_here: RunHere) -> None:
    """Each command takes what the one before it wrote; `--json` gives one value on stdout every time."""
    scenario, profile, training = str(scenario_path), str(tmp_path / "profile.json"), tmp_path / "training"

    def run(*arguments: str) -> dict[str, object]:
        done = run_cli(*arguments, "--json", timeout_s=LIMIT_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    measured = run("profile", scenario, "--out", profile)
    assert measured["profile"]["scenario"] == "small"
    assert measured["profile"]["kept_awake"] is False
    trained = run("train", scenario, "--profile", profile, "--out", str(training), "--seed", "1")
    assert {"learned", "greedy"} <= set(trained["scores"])
    summary = run(
        "evaluate", scenario, "--profile", profile, "--bundle", str(training / "bundle"),
        "--policy", "greedy", "--policy", "edge-only", "--out", str(tmp_path / "runs"), "--name", "one",
    )  # fmt: skip
    assert set(summary["policies"]) == {"learned", "greedy", "edge-only"}
    assert summary["failures"] == []
    assert summary["policies"]["learned"]["decided_by"] == {"controller": 15}
    told = run_here("report", str(tmp_path / "runs" / "one"), "--no-html", "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["policies"] == summary["policies"]
    chosen = ("evaluate", scenario, "--profile", profile, "--policy")
    again = run_here(*chosen, "greedy", "--out", str(tmp_path / "runs"), "--name", "one", cwd=tmp_path)
    assert again.returncode == 65
    unknown = run_here(*chosen, "guess", cwd=tmp_path)
    assert unknown.returncode == 65
    assert "greedy" in unknown.stderr


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_techniques_off_and_on(digits_model: Path, scenario_path: Path, tmp_path: Path) -> None:
    """The named ones are played live and replayed in the simulator; codecs save bytes and early exits are taken."""
    done = run_cli(
        "techniques", str(scenario_path), "--technique", "codec int8+zstd", "--technique", "confidence exits",
        "--seeds", "5,6", "--requests", "15", "--out", str(tmp_path / "runs"), "--name", "shown", "--json", timeout_s=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    codec, confidence = json.loads(done.stdout)
    assert codec["on"]["uplink_bytes_mean"] < codec["off"]["uplink_bytes_mean"] / 3
    assert (codec["on"]["failed"], confidence["on"]["failed"]) == (0, 0)
    lines = (tmp_path / "runs" / "shown" / "records.jsonl").read_text().splitlines()
    exits = {record["exit"] for record in map(json.loads, lines) if record["policy"] == "confidence exits: on"}
    assert len(exits) > 1
    assert codec["on"]["sim_latency_abs_pct_error"] is not None
    assert codec["change"]["link_bytes"] < -0.6
    assert (tmp_path / "runs" / "shown" / "techniques.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_the_demo(digits_model: Path, scenario_path: Path, tmp_path: Path) -> None:
    """Seven steps, each with its time; a report, a bundle and a summary of every policy are left behind."""
    done = run_cli("demo", "--scenario", str(scenario_path), "--out", str(tmp_path / "runs"), "--name", "demo", "--json", timeout_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["seconds"]) == ["model", "nodes", "profile", "train", "serve", "play", "report"]
    assert all(f"[{number}/7]" in done.stderr for number in range(1, 8))
    assert len(result["summary"]["policies"]) == 8
    assert result["summary"]["failures"] == []
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (Path(result["bundle"]) / "manifest.json").is_file()
