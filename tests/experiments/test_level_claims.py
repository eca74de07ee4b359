"""What figures say to a claim, by hand: level by level, from end to end, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.level_claims import CLAIMS, Claim, find, find_all, holds_but_for_returns, overall, show_bytes, show_joules, show_seconds
from experiments.level_measures import LevelSummary, Measures, Served, inference_measures, training_measures
from experiments.level_page import PAGE_NAME, PLOT_NAME, write_level_page
from experiments.level_table import HEADER, claim_lines, level_grid
from experiments.levels import LEVELS
from experiments.runs import RunFolder
from runtime.errors import InvalidInput
from runtime.messages import Breakdown, Outcome
from tests.experiments.fit_summaries import make_summary

LESS = Claim(quantity="offloaded_bytes", words="the amount offloaded falls", rises=False)
MORE = Claim(quantity="compute_s", words="compute latency rises", rises=True)
KEYS = ("cloud", "1", "2")


def make_level(index: int) -> LevelSummary:
    """A level whose figures fall by one with the level, but for compute and energy, which rise."""
    falls, rises = float(6 - index), float(1 + index)
    measures = Measures(
        offloaded_bytes=falls, num_links=(6 - index) // 3, transfer_s=falls, compute_s=rises, device_joules=rises, exposed=falls,
        wan_bytes=falls, accuracy=0.9,
    )  # fmt: skip
    level = LEVELS[index]
    return LevelSummary(
        key=level.key, name=level.name, trained="somehow", placement="somewhere", training=measures, inference=measures, latency_s=0.1,
        requests=10, failed=0, served_accuracy=0.9, accuracy_range=(0.9, 0.9),
    )  # fmt: skip


def test_a_claim_that_holds_at_every_step_is_borne_out() -> None:
    """Equal neighbours do no harm, nor does what is within the tolerance: of counts 1 %, of times 15 % in training and 5 % at inference."""
    finding = find(LESS, "training", KEYS, [2e6, 2.01e6, 1e3])
    assert (finding.verdict, finding.breaches) == ("borne out", ())
    assert finding.sentence == "borne out: 2.00 MB at cloud, 1.0 kB at level 2"
    assert find(LESS, "training", KEYS, [2e6, 2.05e6, 1e3]).verdict == "only from end to end"
    assert find(MORE, "training", KEYS, [0.1, 0.09, 0.2]).verdict == "borne out"
    assert find(MORE, "inference", KEYS, [0.1, 0.09, 0.2]).verdict == "only from end to end"


def test_a_step_the_other_way_is_named_with_both_values() -> None:
    """It is borne out from end to end only."""
    finding = find(LESS, "inference", KEYS, [4000.0, 32000.0, 0.0])
    assert finding.verdict == "only from end to end"
    assert [(step.before, step.after) for step in finding.breaches] == [("cloud", "1")]
    held, _, broken = finding.sentence.partition("; ")
    assert held == "only from end to end: 4.0 kB at cloud, 0 at level 2"
    assert broken == "it rises from cloud to level 1 (4.0 kB to 32.0 kB, x 8)"
    _, _, broken = find(MORE, "training", KEYS, [1.0, 0.5, 20.0]).sentence.partition("; ")
    assert broken == "it falls from cloud to level 1 (1.0 s to 500.0 ms, x 0.5)"


def test_where_the_scale_itself_goes_back_is_told_apart() -> None:
    """Level 4 infers where level 1 does; training never goes back."""
    keys, values = ("cloud", "1", "2", "3", "4"), [5.0, 4.0, 3.0, 0.0, 4.0]
    assert find(LESS, "inference", keys, values).only_returns
    assert not find(LESS, "training", keys, values).only_returns
    assert not find(LESS, "inference", keys, [5.0, 6.0, 3.0, 0.0, 4.0]).only_returns
    assert holds_but_for_returns(find(LESS, "inference", keys, values))
    assert not holds_but_for_returns(find(LESS, "inference", keys, [4.0, 4.0, 3.0, 0.0, 4.0]))


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [1.0, 0.5, 1.005], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
def test_no_change_in_the_end_bears_nothing_out(values: list[float]) -> None:
    """Neither what stays nor what comes back nor what goes the other way."""
    assert find(LESS, "training", KEYS, values).verdict == "not borne out"


def test_every_claim_is_held_against_training_and_inference() -> None:
    """Levels made to fulfil them all do; the count says so."""
    findings = find_all([make_level(index) for index in range(7)])
    assert [one.claim for one in findings] == [claim.words for claim in CLAIMS for _ in range(2)]
    assert {one.verdict for one in findings} == {"borne out"}
    assert overall(findings).startswith("Of 7 claims about higher levels the measurement bears out 7 in training and 7 at inference")
    assert overall(findings).endswith("7 hold at inference.")
    lines = claim_lines(findings)
    assert len(lines) == 3 * len(CLAIMS) + 1
    assert lines[1] == "  training:  borne out: 6 B at cloud, 0 at level 6"


def test_the_table_has_two_rows_a_level() -> None:
    """Training above, inference below."""
    grid = level_grid([make_level(0), make_level(6)])
    assert all(len(row) == len(HEADER) for row in grid.rows)
    assert [row[1] for row in grid.rows] == ["somehow", "somewhere"] * 2
    assert grid.rows[0][2:] == ("6 B", "2 links", "6.0 s", "1.0 s", "1.0 J", "6 B", "6 B", "90.0%")
    assert grid.rows[3][7] == "0.00"


def test_requests_are_summed_up_by_hand() -> None:
    """Means of bytes, joules and leakage, medians of times over those that were answered; a failure is wrong."""

    def served(request: int, status: str, seconds: float, correct: bool) -> Served:
        breakdown = Breakdown(transfer_s=(seconds, seconds), compute_s=(seconds, 0.0, seconds))
        outcome = Outcome(
            request_id=request, status=status, latency_s=4 * seconds, breakdown=breakdown, energy_joules=seconds, link_bytes=(100, 10),
            down_bytes=(5, 5),
        )  # fmt: skip
        return Served(level="1", request=request, example=0, correct=correct, leakage=0.5, outcome=outcome)

    measures = inference_measures([served(0, "ok", 1.0, True), served(1, "ok", 3.0, True), served(2, "deadline", 8.0, False)])
    assert measures == Measures(
        offloaded_bytes=100.0, num_links=2, transfer_s=4.0, compute_s=4.0, device_joules=4.0, exposed=0.5, wan_bytes=15.0, accuracy=2 / 3
    )
    with pytest.raises(InvalidInput, match="no request was answered: deadline"):
        inference_measures([served(0, "deadline", 1.0, False)])


def test_a_training_job_is_summed_up_by_its_kpis() -> None:
    """Links are counted where bytes crossed them."""
    both = training_measures(make_summary(uplink_up_bytes=10, wan_up_bytes=7, wan_down_bytes=2, raw_bytes=8, accuracy=0.5))
    assert (both.num_links, both.offloaded_bytes, both.wan_bytes, both.exposed, both.accuracy) == (2, 10.0, 9.0, 8.0, 0.5)
    assert training_measures(make_summary(uplink_up_bytes=10, wan_up_bytes=0, wan_down_bytes=0)).num_links == 1
    assert training_measures(make_summary(uplink_up_bytes=0, wan_up_bytes=0, wan_down_bytes=0)).num_links == 0


def test_figures_are_written_with_units_that_fit() -> None:
    """From nothing to mega."""
    assert [show_bytes(value) for value in (0, 412, 4096, 3_240_000)] == ["0", "412 B", "4.1 kB", "3.24 MB"]
    assert [show_seconds(value) for value in (0, 0.0063, 21.44)] == ["0", "6.3 ms", "21.4 s"]
    assert [show_joules(value) for value in (0, 0.0312, 212)] == ["0", "31.2 mJ", "212.0 J"]


@pytest.mark.slow
def test_the_page_is_whole(tmp_path: Path) -> None:
    """Every level, every claim with its verdict, the plot as PNG; nothing is fetched."""
    levels = [make_level(index) for index in range(7)]
    findings = find_all(levels)
    folder = RunFolder(tmp_path / "<run>")
    path = write_level_page(folder, levels, findings, "what was played", ["wan: EMULATED"], ["the host was busy"])
    assert path == folder.path / PAGE_NAME
    text = path.read_text(encoding="utf-8")
    for level in LEVELS:
        assert level.name in text
    for claim in CLAIMS:
        assert claim.words in text
    assert "the host was busy" in text
    assert "&lt;run&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert (folder.plots / PLOT_NAME).read_bytes().startswith(b"\x89PNG")
