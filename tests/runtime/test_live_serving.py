"""Several tenants and batches on real nodes: who is served in which order, what is refused, and that answers stay the same."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.batching import BatchingConfig
from runtime.inference.engine import Engine
from runtime.inference.tenancy import TenancyConfig, TenantConfig
from runtime.launch import launch_node, launch_nodes
from runtime.messages import Decision, Failure, Outcome, Result, Submit, Work
from runtime.node import NodeConfig
from runtime.session import Session
from runtime.topology import TierConfig, Topology
from runtime.transport import Context

pytestmark = pytest.mark.slow

WAIT_S = 30.0
BATCH = 4
WHOLE = Decision(model="digits-cnn", variant="fp32", cuts=(0, 7), exit=2)
TAIL = Decision(model="digits-cnn", variant="fp32", cuts=(3, 7), exit=2)
ALWAYS_FULL = BatchingConfig(max_batch=BATCH, max_hold_s=10.0, fixed_fraction=0.2)
"""An idle worker waits for the batch to be full."""


@contextlib.contextmanager
def edge_of(model_dir: Path, folder: Path, tier: TierConfig) -> Iterator[Session]:
    """An edge node alone, and a connection to it."""
    config = NodeConfig(name="edge", tier="edge", model_dirs=(str(model_dir),), topology=Topology(edge=tier), exit_with_parent=True)
    process = launch_node(config, folder)
    try:
        with Context() as context, Session(context, str(process.ready["address"])) as session:
            yield session
        process.check()  # whatever was sent, it lives
    finally:
        process.stop()


def give(
    session: Session, request_id: int, tensor: np.ndarray, *, tenant: str = "", decision: Decision = WHOLE, budget_s: float = WAIT_S
) -> None:
    work = Work(request_id=request_id, decision=decision, stage=decision.cuts[0], budget_s=budget_s, tenant=tenant)
    session.send(work, tensor)


def answers(session: Session, number: int) -> list[tuple[Result | Failure, list[np.ndarray]]]:
    """The next so many ends of requests, in order of arrival, acknowledgements left out."""
    until_s, found = time.perf_counter() + WAIT_S, []
    while len(found) < number:
        received = session.receive(1.0)
        assert time.perf_counter() < until_s, f"{len(found)} of {number} answers within {WAIT_S} s"
        if received is not None and isinstance(received[0], Result | Failure):
            found.append((received[0], received[1]))
    return found


TWO = TenancyConfig(tenants=(TenantConfig(name="noisy"), TenantConfig(name="quiet")))


def test_a_noisy_tenant_does_not_go_before_a_quiet_one(digits_model: Path, tmp_path: Path, images: np.ndarray) -> None:
    """Forty jobs of one tenant wait when another's four arrive: those are served in turn with as many of the others, not after them."""
    with edge_of(digits_model, tmp_path, TierConfig(full_model_s=0.02, tenancy=TWO)) as session:
        for request_id in range(40):
            give(session, request_id, images[0], tenant="noisy")
        for request_id in range(100, 104):
            give(session, request_id, images[0], tenant="quiet")
        order = [answer.request_id for answer, _ in answers(session, 44)]
        before = [request_id for request_id in order[: order.index(103)] if request_id < 100]
        assert len(before) <= 20, "a plain queue would serve all 40 first"
        assert [request_id for request_id in order if request_id < 100] == list(range(40))


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_answers_of_a_batch_are_those_of_its_requests(digits_model: Path, tmp_path: Path, images: np.ndarray, variant: str) -> None:
    """Twelve pictures in three full batches: each has the logits that the engine gives it alone."""
    engine, decision = Engine(digits_model), Decision(model="digits-cnn", variant=variant, cuts=(0, 7), exit=2)
    with edge_of(digits_model, tmp_path, TierConfig(batching=ALWAYS_FULL)) as session:
        for request_id in range(3 * BATCH):
            give(session, request_id, images[request_id], decision=decision)
        ended = answers(session, 3 * BATCH)
    assert sorted(answer.request_id for answer, _ in ended) == list(range(3 * BATCH))
    for answer, tensors in ended:
        assert isinstance(answer, Result), answer
        assert answer.spans[0].batch == BATCH
        (alone,) = engine.run(variant, 0, 7, 2, [images[answer.request_id]])
        np.testing.assert_allclose(tensors[0], alone, rtol=1e-3, atol=1e-3)


def test_a_bad_row_fails_alone(digits_model: Path, tmp_path: Path, images: np.ndarray) -> None:
    """One of a batch's requests carries NaN: it is bad_input, the others have their answers."""
    (good,) = Engine(digits_model).run("fp32", 0, 3, None, [images[0]])
    with edge_of(digits_model, tmp_path, TierConfig(batching=ALWAYS_FULL)) as session:
        for request_id in range(BATCH):
            give(session, request_id, good if request_id != 2 else np.full_like(good, np.nan), decision=TAIL)
        ended = {answer.request_id: answer for answer, _ in answers(session, BATCH)}
    bad = ended.pop(2)
    assert isinstance(bad, Failure)
    assert bad.status == "bad_input"
    assert all(isinstance(answer, Result) for answer in ended.values())


def test_a_held_job_starts_by_itself(digits_model: Path, tmp_path: Path, images: np.ndarray) -> None:
    """Nobody joins it: its hold ends, or its deadline comes near, and it runs or says so, though nothing else happens."""
    batching = BatchingConfig(max_batch=BATCH, max_hold_s=0.1, fixed_fraction=0.2)
    with edge_of(digits_model, tmp_path, TierConfig(batching=batching)) as session:
        give(session, 1, images[0])
        ((answer, _),) = answers(session, 1)
        assert isinstance(answer, Result)
        assert answer.spans[0].batch == 1
    with edge_of(digits_model, tmp_path, TierConfig(batching=ALWAYS_FULL)) as session:
        give(session, 1, images[0], budget_s=1.0)
        ((answer, _),) = answers(session, 1)
        assert isinstance(answer, Result) or answer.status == "deadline"


STRICT = TenancyConfig(
    tenants=(
        TenantConfig(name="first"),
        TenantConfig(name="rare", rate_requests_per_s=1e-6, burst_requests=1),
        TenantConfig(name="narrow", max_waiting=1),
    ),
    admission=True,
)


REFUSALS = [
    ("rare", WAIT_S, "overload", "rate", "over its rate"),
    ("narrow", WAIT_S, "overload", "tenant_full", "1 jobs of tenant 'narrow' wait already"),
    ("stranger", WAIT_S, "bad_input", "unknown_tenant", "not known here"),
    ("first", 0.5, "deadline", "deadline", "do not fit"),
]


def test_refusals_are_typed_and_come_before_what_runs(digits_model: Path, tmp_path: Path, images: np.ndarray) -> None:
    """While a long job runs, what cannot pass is told so at once, and the node goes on."""
    with edge_of(digits_model, tmp_path, TierConfig(full_model_s=1.0, tenancy=STRICT)) as session:
        for request_id, name in enumerate(["first", "rare", "narrow"]):
            give(session, request_id, images[0], tenant=name)
        for request_id, (tenant, budget_s, status, reason, words) in enumerate(REFUSALS, start=9):
            give(session, request_id, images[0], tenant=tenant, budget_s=budget_s)
            ((refused, _),) = answers(session, 1)
            assert isinstance(refused, Failure)
            assert (refused.request_id, refused.status) == (request_id, status)
            assert words in refused.message
            assert session.status().counters[f"refused_{reason}"] == 1
        assert all(isinstance(answer, Result) for answer, _ in answers(session, 3))


def test_a_quota_fills_up_again(digits_model: Path, tmp_path: Path, images: np.ndarray) -> None:
    """Who asks too fast is refused with overload, and passes again without anybody's help."""
    tenants = (TenantConfig(name="a", rate_requests_per_s=20.0, burst_requests=1), TenantConfig(name="b"))
    with edge_of(digits_model, tmp_path, TierConfig(tenancy=TenancyConfig(tenants=tenants))) as session:
        ended: list[Result | Failure] = []
        until_s, ids = time.perf_counter() + WAIT_S, itertools.count()
        while sum(isinstance(answer, Result) for answer in ended) < 3:
            assert time.perf_counter() < until_s
            give(session, next(ids), images[0], tenant="a")
            ended += [answer for answer, _ in answers(session, 1)]
    assert all(answer.status == "overload" for answer in ended if isinstance(answer, Failure))


def test_tenants_and_batches_are_told_to_the_client(digits_model: Path, images: np.ndarray) -> None:
    """Through the device: the outcome names tenant and batch per tier, its parts sum to its latency, telemetry has the lanes."""
    topology = Topology(edge=TierConfig(tenancy=TWO, batching=ALWAYS_FULL))
    with launch_nodes(topology, digits_model) as nodes, Context() as context, Session(context, nodes.device_address) as session:
        until_s = time.perf_counter() + WAIT_S
        while len(session.status().telemetry) < 3:
            assert time.perf_counter() < until_s
        for request_id in range(BATCH):
            submit = Submit(
                request_id=request_id, model="digits-cnn", deadline_s=WAIT_S, decision=WHOLE, tenant=("noisy", "quiet")[request_id % 2]
            )
            session.send(submit, images[request_id])
        outcomes = [outcome for outcome in (session.receive(WAIT_S) for _ in range(BATCH)) if outcome is not None]
        for outcome, _ in outcomes:
            assert isinstance(outcome, Outcome)
            assert (outcome.status, outcome.batch) == ("ok", (0, BATCH, 0)), outcome.message
            assert outcome.tenant == ("noisy", "quiet")[outcome.request_id % 2]
            assert math.isclose(outcome.breakdown.total_s(), outcome.latency_s, abs_tol=1e-9)
        edge = session.status().telemetry[1]
        assert [lane.tenant for lane in edge.tenants] == ["noisy", "quiet"]
        stranger = session.infer("digits-cnn", images[0], WAIT_S, WHOLE, tenant="stranger")
        assert (stranger.status, stranger.tenant) == ("bad_input", "stranger")
