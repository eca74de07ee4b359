"""What `drlctl fit` says to options that would be without effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drlctl.conftest import RunHere

SPLIT = """
name = "halves"
[fit]
architecture = "split"
cut = 1
data = { num_clients = 2, partition = "iid" }
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels-stay",), "--labels-stay: it belongs to --architecture split; this job is federated"),
        (("--cut", "2"), "--cut: it belongs to --architecture split"),
        (("--edge-rounds", "1"), "--edge-rounds: it belongs to --architecture hierarchical"),
        (("--alpha", "0.1", "--partition", "iid"), "--alpha: it belongs to --partition dirichlet; this job is federated, its data iid"),
        (("--aggregator", "median", "--architecture", "gossip"), "--aggregator: it belongs to --architecture federated"),
        (("--architecture", "split", "--compare"), "leave out --architecture"),
        (("--cut", "1", "--edge-rounds", "2", "--compare"), "leave out --cut, --edge-rounds"),
        (("--state", "x.json"), "only --running asks which system runs"),
    ],
)
def test_an_option_without_effect_is_refused(run_here: RunHere, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """As a usage error that says what it belongs to: who gives it would believe in it."""
    ran = run_here("fit", "calm", *options, cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert said in " ".join(ran.stderr.split())


def test_what_counts_is_the_job_as_scenario_and_options_make_it(run_here: RunHere, tmp_path: Path) -> None:
    """A split scenario takes `--labels-stay`, and no `--alpha` for its even parts."""
    (tmp_path / "halves.toml").write_text(SPLIT)
    for options, code, said in (
        (("--labels-stay", "--data", "/nowhere"), 65, "no data set '/nowhere'"),
        (("--alpha", "1"), 2, "its data iid"),
    ):
        ran = run_here("fit", "halves.toml", *options, cwd=tmp_path)
        assert ran.returncode == code, ran.stderr
        assert said in " ".join(ran.stderr.split())


def test_no_imitation_is_not_taken_for_no_wish(run_here: RunHere, tmp_path: Path) -> None:
    """`--distil 0` says something that no job does."""
    ran = run_here("fit", "calm", "--base", "own", "--distil", "0", cwd=tmp_path)
    assert ran.returncode == 78
    assert "a share in (0, 1]" in ran.stderr
