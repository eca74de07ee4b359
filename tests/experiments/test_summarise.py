"""Summaries: hand-computed figures, promised keys, and words that say no more than the figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from envs.system import JobReport
from experiments.evaluate import EpisodeFailure
from experiments.records import Record
from experiments.runs import RunInfo
from experiments.summarise import LATENCY_PARTS, counted_latency_s, latency_parts, summarise
from experiments.summary import Summary, encode_summary, load_summary, save_summary
from experiments.verdict import verdict
from runtime.errors import InvalidInput
from runtime.messages import Breakdown
from tests.experiments.test_records import make_record
from tests.experiments.worlds import DEVICE, EDGE, toy_scenario

INFO = RunInfo(name="r", command="drlctl evaluate toy", seed=1, seeds=(1, 2, 3), created_at="2026-01-01T00:00:00+00:00", versions={})
POLICY_KEYS = {
    "requests", "failed", "cost_mean", "cost_ci95", "latency_p50_s", "latency_p95_s", "miss_fraction", "accuracy",
    "energy_joules_mean", "uplink_bytes_mean", "decision_p50_s",
}  # fmt: skip


def three_seeds(policy: str, costs: list[float], **changes: object) -> list[Record]:
    """The same costs in each of three seeds."""
    return [
        make_record(policy=policy, seed=seed, request_id=index, arrival_s=0.1 * index, cost=cost, **changes)
        for seed in (1, 2, 3)
        for index, cost in enumerate(costs)
    ]


def summary_of(*groups: list[Record], learned: str | None = "learned", failures: tuple[EpisodeFailure, ...] = ()) -> Summary:
    """The summary of some policies' records."""
    return summarise(INFO, toy_scenario(), [record for group in groups for record in group], learned=learned, failures=failures)


NOISE = [1.0, 1.4, 0.8, 1.2, 1.1, 0.9, 1.3, 0.7] * 5
DEARER = [cost + 0.2 for cost in NOISE]


def test_figures_by_hand() -> None:
    """Four requests: one failed early, one late, one wrong."""
    home = {"decision": DEVICE, "placement": "device", "exit": 0}
    edge = {"decision": EDGE, "placement": "edge", "exit": 2}
    records = [
        make_record(request_id=0, latency_s=0.1, cost=1.0, energy_joules=0.2, link_bytes=(100, 40), **home),
        make_record(request_id=1, latency_s=0.2, cost=2.0, correct=False, leakage=1.0, decision_s=0.004, **edge),
        make_record(
            request_id=2, latency_s=0.4, cost=3.0, down_bytes=(8, 0), decision_s=0.002, decided_by="fallback", handed_over=True, **edge
        ),
        make_record(request_id=3, latency_s=0.01, status="overload", correct=None, cost=4.0, decision=None),
    ]
    policy = summary_of(records, learned=None).policies["edge-only"]
    assert (policy.requests, policy.failed, policy.cost_mean, policy.miss_fraction) == (4, 1, 2.5, 0.5)
    assert policy.accuracy == 0.5
    assert policy.energy_joules_mean == pytest.approx(0.05)
    assert policy.handed_over_fraction == 0.25
    assert policy.uplink_bytes_mean == 25
    assert (policy.wan_bytes_mean, policy.downlink_bytes_mean, policy.leakage_mean) == (10, 2, 0.25)
    assert policy.exits == pytest.approx({"0": 1 / 3, "2": 2 / 3})
    assert policy.latency_p50_s == pytest.approx(0.25)  # 0.1 0.2 0.3 0.4: the refused one counts with its deadline
    assert policy.decision_p50_s == pytest.approx(0.003)
    assert policy.thinking_p50_s is None
    assert policy.statuses == {"ok": 3, "overload": 1}
    assert policy.fallbacks == 1
    assert [(share.placement, share.fraction) for share in policy.decisions] == [("edge", 2 / 3), ("device", 1 / 3)]
    assert policy.cost_ci95[0] < 2.5 < policy.cost_ci95[1]


def test_promised_keys() -> None:
    """summary.json has what its readers were told."""
    data = msgspec.json.decode(encode_summary(summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER))))
    assert {"scenario", "policies", "sim_to_live", "versions", "seed", "command"} <= data.keys()
    assert all(data["policies"].keys() == {"learned", "greedy"} and policy.keys() >= POLICY_KEYS for policy in data["policies"].values())


def test_saved_is_loaded(tmp_path: Path) -> None:
    """The file says what the struct says, and its corruption is named."""
    summary = summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER))
    save_summary(summary, tmp_path / "summary.json")
    assert load_summary(tmp_path / "summary.json") == summary
    for bad in (b"{}", b"\xff", b'{"schema": 1', encode_summary(msgspec.structs.replace(summary, schema=9))):
        (tmp_path / "summary.json").write_bytes(bad)
        with pytest.raises(InvalidInput, match=r"summary\.json"):
            load_summary(tmp_path / "summary.json")


def test_the_breakdown_is_complete() -> None:
    """The parts that reports show tile the whole."""
    breakdown = Breakdown(
        client_s=1, preprocess_s=2, decision_s=4, queue_s=(8, 16, 32), compute_s=(64, 128, 256), serialise_s=(512, 1024, 2048),
        transfer_s=(4096, 8192), postprocess_s=16384, handover_s=32768,
    )  # fmt: skip
    assert len(latency_parts(breakdown)) == len(LATENCY_PARTS)
    assert sum(latency_parts(breakdown)) == breakdown.total_s() == 2**16 - 1


def test_a_quick_refusal_is_not_fast() -> None:
    """It counts with its deadline; being told later than that counts in full."""
    assert counted_latency_s(make_record(status="overload", latency_s=0.001)) == 0.3
    assert counted_latency_s(make_record(status="deadline", latency_s=0.32)) == 0.32
    assert counted_latency_s(make_record(latency_s=0.001)) == 0.001


def test_a_win_is_paired_and_signed() -> None:
    """0.2 dearer on every request, however noisy: certain, 0.2 / 1.25 of the heuristic's cost."""
    summary = summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER), three_seeds("random", [9.0] * 40))
    comparison = summary.comparison
    assert comparison is not None
    assert comparison.best_heuristic == "greedy"
    assert comparison.difference.low == pytest.approx(0.2)
    assert comparison.difference.high == pytest.approx(0.2)
    assert comparison.relative_gain == pytest.approx(0.2 / np.mean(DEARER))
    assert list(summary.policies) == ["learned", "greedy", "random"]
    assert verdict(summary).headline.startswith("learned beats the best heuristic, greedy, by 16.0% (15.8% to 16.2%): it saves 0.200")
    assert verdict(summary).wins[0].startswith("cheaper than greedy, random (")


def test_a_loss_is_called_one() -> None:
    """The learned policy is dearer on every request."""
    words = verdict(summary_of(three_seeds("learned", DEARER), three_seeds("greedy", NOISE)))
    assert "does NOT beat the best heuristic, greedy" in words.headline
    assert "it costs 0.200 more" in words.headline
    assert any("not cheaper than greedy in 3 of 3 seeds" in line for line in words.losses)
    assert any(line.startswith("dearer than greedy") for line in words.losses)


def test_noise_is_not_called_a_win() -> None:
    """Better on average, by luck: the interval holds 0 and the words say so."""
    luck = np.random.default_rng(0).normal(size=40)
    lucky = (np.array(NOISE) - 0.02 + 0.5 * (luck - luck.mean())).tolist()
    summary = summary_of(three_seeds("learned", lucky), three_seeds("greedy", NOISE))
    assert summary.comparison is not None
    assert summary.comparison.difference.mean > 0
    assert "cannot be told apart from the best heuristic, greedy: saving +0.020 a request" in verdict(summary).headline


def test_one_episode_of_a_job_decides_nothing() -> None:
    """What it came to is shared out among many requests and is one figure all the same: no interval, no verdict, no rows by load."""
    job = JobReport(num_rounds=2, num_steps=10, initial_loss=2.0, final_loss=1.5)
    ours, theirs = three_seeds("learned", DEARER, job=job), three_seeds("greedy", NOISE, job=job)
    first = [record for record in (*ours, *theirs) if record.seed == 1]
    summary = summary_of(first)
    assert summary.comparison is None
    assert summary.policies["greedy"].cost_above_learned is None
    assert "one episode of a job does not tell learned from it" in verdict(summary).headline
    three = summary_of(ours, theirs)
    assert three.comparison is not None
    assert three.by_load == ()


def test_who_decides_alike_differs_by_luck_only() -> None:
    """By hand: of four requests that both have, two are decided the same way; the headline says so."""
    ours = [make_record(policy="learned", request_id=index, decision=EDGE, cost=1.0 + index) for index in range(4)]
    theirs = [
        make_record(policy="greedy", request_id=index, decision=decision, cost=4.0 - index)
        for index, decision in enumerate((EDGE, DEVICE, EDGE, DEVICE))
    ]
    summary = summary_of(ours, theirs)
    assert summary.comparison is not None
    assert summary.comparison.alike_fraction == 0.5
    assert verdict(summary).headline.endswith("They decide 50% of the requests alike.")


def test_a_tau_makes_no_other_decision() -> None:
    """It came with the request's decision and is the training job's: where the request goes is the same."""
    told = msgspec.structs.replace(EDGE, tau=5)
    summary = summary_of(three_seeds("learned", NOISE, decision=told), three_seeds("greedy", DEARER, decision=EDGE))
    assert summary.comparison is not None
    assert summary.comparison.alike_fraction == 1.0


def test_where_it_does_not_win_is_said() -> None:
    """Cheaper overall, but slower and hungrier than others: metric by metric."""
    words = verdict(
        summary_of(
            three_seeds("learned", NOISE, latency_s=0.2, energy_joules=0.5),
            three_seeds("greedy", DEARER, latency_s=0.1, energy_joules=0.6),
            three_seeds("edge-only", [9.0] * 40, latency_s=0.25, energy_joules=0.0, correct=False),
        )
    )
    assert any(line.startswith("median latency: 200 ms, greedy 100 ms") for line in words.losses)
    assert any(line.startswith("device energy: 500 mJ, edge-only 0 mJ (at a cost of 9.000") for line in words.losses)
    assert not any("accuracy" in line for line in (*words.losses, *words.wins))  # level with greedy


def test_an_incomplete_policy_is_neither_best_nor_hidden() -> None:
    """A heuristic that played one easy seed does not become the best one, and readers are told."""
    easy = [record for record in three_seeds("edgent", [0.1] * 40) if record.seed == 1]
    failure = EpisodeFailure(policy="edgent", seed=2, error="SystemFailure: died")
    summary = summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER), easy, failures=(failure,))
    assert summary.comparison is not None
    assert summary.comparison.best_heuristic == "greedy"
    caveats = " / ".join(verdict(summary).caveats)
    assert "edgent, seed 2: SystemFailure: died" in caveats
    assert "not on all seeds" in caveats


def test_emulation_is_said_aloud() -> None:
    """Emulated and modelled parts are caveats, each with its word."""
    caveats = verdict(summary_of(three_seeds("learned", NOISE))).caveats
    assert any("device: EMULATED" in line for line in caveats)
    assert any("energy: MODELLED" in line for line in caveats)


@pytest.mark.parametrize(("steal", "said"), [(0.25, True), (0.01, False), (None, False)])
def test_a_host_that_took_the_processors_away_is_named(steal: float | None, said: bool) -> None:
    """With whom it disturbed and how much; a little, or what is not known, is not worth a word."""
    summary = summary_of(three_seeds("learned", NOISE, host_steal=0.0), three_seeds("greedy", DEARER, host_steal=steal))
    assert summary.policies["greedy"].host_steal_max == steal
    assert any("25%" in line and "greedy" in line and "learned" not in line for line in verdict(summary).caveats) is said


def test_repeated_episodes_are_counted_and_said() -> None:
    """By episode, not by request."""
    summary = summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER, attempts=2))
    assert [summary.policies[name].episodes_repeated for name in ("learned", "greedy")] == [0, 3]
    assert sum("3 episodes played again" in line for line in verdict(summary).caveats) == 1


def test_what_the_simulator_leaves_out_is_said_aloud() -> None:
    """Of a scenario whose nodes fetch models, in the summary and among the caveats; of another, nothing."""
    scenario, records = toy_scenario(), three_seeds("learned", NOISE)
    cold = msgspec.structs.replace(scenario, topology=msgspec.structs.replace(scenario.topology, distribute=True))
    for played, left_out in ((scenario, 0), (cold, 1)):
        summary = summarise(INFO, played, records)
        assert len(summary.not_modelled) == left_out
        assert sum("not modelled by the simulator: distribute" in line for line in verdict(summary).caveats) == left_out


@pytest.mark.parametrize("learned", [None, "learned"])
def test_heuristics_alone_are_compared_too(learned: str | None) -> None:
    """Without the learned policy, or when all its episodes broke, there is a table and no verdict on it."""
    summary = summary_of(three_seeds("greedy", NOISE), three_seeds("edge-only", DEARER), learned=learned)
    assert summary.comparison is None
    assert summary.learned is None
    assert summary.by_load == ()
    assert verdict(summary).headline.startswith("greedy is cheapest")


def test_without_common_requests_nothing_is_paired() -> None:
    """The learned policy's only seed is not the heuristic's."""
    ours = [record for record in three_seeds("learned", NOISE) if record.seed == 1]
    theirs = [record for record in three_seeds("greedy", NOISE) if record.seed == 2]
    assert summary_of(ours, theirs).comparison is None


def test_no_records_no_summary() -> None:
    """The error says why there are none."""
    with pytest.raises(InvalidInput, match="SystemFailure: died"):
        summarise(INFO, toy_scenario(), [], failures=[EpisodeFailure(policy="a", seed=1, error="SystemFailure: died")])
