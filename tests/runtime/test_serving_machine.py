"""Tenants and batches in a node's state machine: what runs together, what is refused, what is reported."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from runtime.inference.batching import BatchingConfig
from runtime.inference.tenancy import ONE_TENANT, TenancyConfig, TenantConfig
from runtime.messages import Decision, Failure, LinkView, NodeTelemetry, Outcome, Pong, Result, Submit, TenantBacklog, Work
from runtime.models.manifest import Manifest, SegmentFile, segment_key
from runtime.protocol.connection import Connection
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import ComputedBatch, Instruction, Received, Run, RunBatch
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.payload_sizes import HEADER_BYTES
from runtime.protocol.remainder import Remainder, expected_wait_s
from tests.runtime import protocol_helpers as make
from tests.runtime.protocol_helpers import LOGITS, computed, decision, image, received, runs, sent, tick

BATCHES = BatchingConfig(max_batch=3)
TWO = TenancyConfig(tenants=(TenantConfig(name="a"), TenantConfig(name="b", max_waiting=1)))


def open_manifest() -> Manifest:
    """The tiny one, whose segments take any batch, and whose confidence is calibrated."""
    manifest = make.tiny_manifest()
    segments = {
        segment_key(*piece): SegmentFile(path="x", sha256="", num_bytes=0, any_batch=True) for piece in manifest.segments(early_exit=True)
    }
    variant = msgspec.structs.replace(manifest.variants["fp32"], segments=segments, exit_thresholds=(0.5,), exit_shares=(0.5, 0.5))
    return msgspec.structs.replace(manifest, variants={"fp32": variant})


def make_edge(tenancy: TenancyConfig = ONE_TENANT, batching: BatchingConfig = BATCHES, manifest: Manifest | None = None) -> NodeMachine:
    """An edge node with a cloud above it."""
    identity = msgspec.structs.replace(
        make.make_identity("edge", max_waiting=8),
        tenancy=tenancy,
        batching=batching,
        fixed_fractions={"tiny": {"fp32": 0.5}},
        slowdowns_above=(1.0,),
    )
    up = Connection(None, period_s=0.1, timeout_s=1.0)
    edge = NodeMachine(identity, HostedModels([manifest or open_manifest()]), up, Downstream(None))
    make.hear_from_above(edge, 0.6)
    return edge


def work(request_id: int, at_s: float = 1.0, *, tenant: str = "", given: Decision | None = None, budget_s: float = 1.0) -> Received:
    """A request's work from the start, by default all of it."""
    message = Work(request_id=request_id, decision=given or decision((0, 3)), stage=0, budget_s=budget_s, tenant=tenant)
    return received(message, [image()], at_s=at_s, peer=b"device")


def batches(out: list[Instruction]) -> list[list[int]]:
    """Ids of each batch that starts."""
    return [[row.request_id for row in item.rows] for item in out if isinstance(item, RunBatch)]


def together(request_ids: list[int], started_at_s: float, at_s: float) -> ComputedBatch:
    """The worker's word on a batch."""
    rows = tuple(
        msgspec.structs.replace(computed(request_id, started_at_s, at_s, [LOGITS]), batch=len(request_ids)) for request_id in request_ids
    )
    return ComputedBatch(rows=rows, at_s=at_s)


def failures(out: list[Instruction]) -> list[Failure]:
    """Those among what is sent down."""
    return [message for message in sent(out, "down") if isinstance(message, Failure)]


def test_what_waits_for_the_same_segment_runs_together() -> None:
    """Four wait behind one: three start as one, end as one with a batch of three each, and then the fourth alone."""
    edge = make_edge()
    assert [run.request_id for run in runs(edge.handle(work(1)))] == [1]
    for request_id in (2, 3, 4, 5):
        edge.handle(work(request_id))
    assert batches(edge.handle(computed(1, 1.0, 1.1, [LOGITS]))) == [[2, 3, 4]]
    out = edge.handle(together([2, 3, 4], 1.1, 1.2))
    results = [message for message in sent(out, "down") if isinstance(message, Result)]
    assert [(result.request_id, result.spans[0].batch) for result in results] == [(2, 3), (3, 3), (4, 3)]
    assert [result.spans[0].compute_s for result in results] == [pytest.approx(0.1)] * 3
    assert [run.request_id for run in runs(out)] == [5]
    assert (edge.counters["batches"], edge.counters["batched_requests"]) == (1, 3)


def test_one_bad_row_of_a_batch_is_one_failure() -> None:
    """The worker's word on each row is that row's end."""
    edge = make_edge()
    for request_id in (1, 2, 3):
        edge.handle(work(request_id))
    edge.handle(computed(1, 1.0, 1.1, [LOGITS]))
    ended = together([2, 3], 1.1, 1.2)
    bad = msgspec.structs.replace(ended.rows[0], error="NaN", bad_input=True)
    out = edge.handle(msgspec.structs.replace(ended, rows=(bad, ended.rows[1])))
    assert [(failure.request_id, failure.status) for failure in failures(out)] == [(2, "bad_input")]
    assert [message.request_id for message in sent(out, "down") if isinstance(message, Result)] == [3]


@pytest.mark.parametrize(
    ("given", "manifest"),
    [
        (Decision(model="tiny", variant="fp32", cuts=(0, 3), exit=1, early_exit=True), None),
        (decision((0, 3)), make.tiny_manifest()),
    ],
    ids=["early-exit", "fixed-axis"],
)
def test_some_never_run_together(given: Decision, manifest: Manifest | None) -> None:
    """Requests that may leave on the way, and segments that take one row only."""
    edge = make_edge(manifest=manifest)
    for request_id in (1, 2, 3):
        edge.handle(work(request_id, given=given))
    out = edge.handle(computed(1, 1.0, 1.1, [LOGITS]))
    assert (batches(out), [run.request_id for run in runs(out)]) == ([], [2])


def test_a_held_job_wakes_the_node_by_itself() -> None:
    """An idle worker that waits for more asks for a tick when its patience ends, and starts then."""
    edge = make_edge(batching=BatchingConfig(max_batch=3, max_hold_s=0.02))
    assert runs(edge.handle(work(1, 0.61))) == []
    assert edge.next_tick_at_s <= 0.63
    assert [run.request_id for run in runs(edge.handle(tick(0.63)))] == [1]


def test_one_tenant_takes_all() -> None:
    """By default whatever name a request carries, it is served, and nothing is reported per tenant."""
    edge = make_edge(batching=BatchingConfig())
    assert len(runs(edge.handle(work(1, tenant="anybody")))) == 1
    assert edge.telemetry(1.0)[0].tenants == ()


def test_work_goes_up_with_its_tenant() -> None:
    """The node above tells tenants apart too."""
    edge = make_edge()
    edge.handle(work(1, tenant="a", given=decision((0, 1))))
    features = [np.zeros((1, 4), np.float32)]
    (up,) = sent(edge.handle(computed(1, 1.0, 1.1, features)), "up")
    assert isinstance(up, Work)
    assert up.tenant == "a"


def test_tenants_are_refused_and_reported_by_name() -> None:
    """A full lane and an unknown name are typed, at once; telemetry has each lane."""
    edge = make_edge(TWO, BatchingConfig())
    edge.handle(work(1, tenant="b"))
    edge.handle(work(2, tenant="b"))
    assert [(failure.request_id, failure.status) for failure in failures(edge.handle(work(3, tenant="b")))] == [(3, "overload")]
    assert [(failure.request_id, failure.status) for failure in failures(edge.handle(work(4, tenant="c")))] == [(4, "bad_input")]
    assert (edge.counters["refused_tenant_full"], edge.counters["refused_unknown_tenant"]) == (1, 1)
    lanes = edge.telemetry(1.0)[0].tenants
    assert [(lane.tenant, lane.num_waiting) for lane in lanes] == [("a", 0), ("b", 1)]
    assert [lane.backlog_s for lane in lanes] == pytest.approx([0.0, 0.031])


def test_admission_counts_what_follows_above() -> None:
    """10 ms here and 21 ms above do not fit in 25 ms, 31 ms here alone do fit in 35 ms."""
    edge = make_edge(TenancyConfig(admission=True), BatchingConfig())
    assert [failure.status for failure in failures(edge.handle(work(1, given=decision((0, 1)), budget_s=0.025)))] == ["deadline"]
    assert edge.counters["refused_deadline"] == 1
    assert len(runs(edge.handle(work(2, budget_s=0.035)))) == 1


def test_remainder_by_hand() -> None:
    """Cut 1 (16 B and a header) over 1 kB/s with 100 B before it and 5 ms each way, 50 ms of backlog 20 ms ago, 2 x 21 ms of computing."""
    remainder = Remainder(HostedModels([make.tiny_manifest()]), "edge", (2.0,))
    link = LinkView(rate_bytes_per_s=1e3, delay_s=0.005, outstanding_bytes=100.0, age_s=0.0)
    cloud = NodeTelemetry(tier="cloud", backlog_s=0.05, age_s=0.02)
    expected_s = 0.01 + (16 + HEADER_BYTES + 100) / 1e3 + 0.03 + 2 * 0.021
    assert remainder.expected_s(decision((0, 1)), "", (cloud,), (link,)) == pytest.approx(expected_s)
    assert remainder.expected_s(decision((0, 3)), "", (cloud,), (link,)) == 0.0
    assert remainder.expected_s(decision((0, 1)), "", (), ()) == 0.0


def test_a_tenant_waits_for_as_much_of_the_others_as_it_has() -> None:
    """Of 1.3 s in all, 1 s waiting is another's and 0.1 s this one's: 0.2 s run, 0.1 s are its own, 0.1 s of the other go before."""
    lanes = (TenantBacklog(tenant="a", num_waiting=9, backlog_s=1.0), TenantBacklog(tenant="b", num_waiting=1, backlog_s=0.1))
    node = NodeTelemetry(tier="cloud", backlog_s=1.3, tenants=lanes)
    assert expected_wait_s(node, "b") == pytest.approx(0.4)
    assert expected_wait_s(node, "a") == pytest.approx(1.3)
    assert expected_wait_s(node, "") == pytest.approx(1.3)


def test_telemetry_of_tenants_passes_through() -> None:
    """What the cloud says of its lanes, the device hears from the edge."""
    edge = make_edge()
    lanes = (TenantBacklog(tenant="a", num_waiting=1, backlog_s=0.1),)
    edge.handle(received(Pong(sequence=0, nodes=(NodeTelemetry(tier="cloud", tenants=lanes),)), at_s=1.0, source="up"))
    assert edge.telemetry(1.0)[1].tenants == lanes


def make_sharing_device() -> DeviceMachine:
    """A device whose four requests in flight are shared by two tenants, batches of up to three."""
    plain = make.make_device(upstream=False)
    identity = msgspec.structs.replace(
        plain.identity,
        tenancy=TenancyConfig(tenants=(TenantConfig(name="a"), TenantConfig(name="b"))),
        batching=BATCHES,
        fixed_fractions={"tiny": {"fp32": 0.5}},
    )
    return DeviceMachine(
        identity,
        HostedModels([open_manifest()]),
        None,
        max_in_flight=4,
        decision_budget_s=0.02,
        compute_power=make.ComputePower(busy_watts=5.0, idle_watts=3.0),
        radio_power=make.RadioPower(slope_watts_per_byte_per_s=0.0, base_watts=0.0),
    )


def submit(request_id: int, tenant: str) -> Received:
    """A request decided by its client: all on the device."""
    message = Submit(request_id=request_id, model="tiny", deadline_s=1.0, decision=decision((3, 3)), tenant=tenant)
    return received(message, [image()], at_s=1.0)


def outcome(out: list[Instruction], request_id: int) -> Outcome:
    """That request's end."""
    (found,) = [message for message in sent(out, "down") if isinstance(message, Outcome) and message.request_id == request_id]
    return found


def test_a_tenant_cannot_fill_the_device() -> None:
    """Each has its share of the requests in flight; one more is overload, and a stranger is bad input."""
    device = make_sharing_device()
    device.handle(submit(1, "a"))
    device.handle(submit(2, "a"))
    refused = outcome(device.handle(submit(3, "a")), 3)
    assert (refused.status, refused.tenant) == ("overload", "a")
    assert outcome(device.handle(submit(4, "c")), 4).status == "bad_input"
    assert sent(device.handle(submit(5, "b")), "down") == []


def test_rows_of_a_batch_share_its_energy() -> None:
    """Two requests computed together in 100 ms at 2 W above idle: each waited for all of it and is charged half."""
    device = make_sharing_device()
    for request_id, tenant in ((1, "a"), (2, "a"), (3, "b")):
        device.handle(submit(request_id, tenant))
    assert batches(device.handle(computed(1, 1.0, 1.1, [LOGITS]))) == [[3, 2]]
    ended = outcome(device.handle(together([3, 2], 1.1, 1.2)), 3)
    assert (ended.status, ended.tenant, ended.batch) == ("ok", "b", (2, 0, 0))
    assert ended.breakdown.compute_s[0] == pytest.approx(0.1)
    assert ended.energy_joules == pytest.approx(0.5 * 0.1 * 2.0)
    assert ended.breakdown.total_s() == pytest.approx(ended.latency_s)


def test_names_of_tenants_are_bounded() -> None:
    """A name of more than 128 characters is no message."""
    with pytest.raises(ValueError, match="128 characters"):
        Submit(request_id=1, model="m", deadline_s=1.0, tenant="x" * 129)
    with pytest.raises(ValueError, match="128 characters"):
        Work(request_id=1, decision=decision((0, 3)), stage=0, budget_s=1.0, tenant="x" * 129)


def test_runs_of_a_batch_carry_their_own_codec() -> None:
    """Requests whose tensors go on in another codec run together all the same."""
    edge = make_edge()
    plain = decision((0, 1))
    for request_id, codec in ((1, "identity"), (2, "identity"), (3, "fp16")):
        given = msgspec.structs.replace(plain, codec=codec)
        message = Work(request_id=request_id, decision=given, stage=0, budget_s=1.0)
        edge.handle(Received(source="down", message=message, parcel=make.pack([image()], codec), num_bytes=9, at_s=1.0, peer=b"device"))
    out = edge.handle(computed(1, 1.0, 1.1, [np.zeros((1, 4), np.float32)]))
    (batch,) = [item for item in out if isinstance(item, RunBatch)]
    assert [row.codec for row in batch.rows] == ["identity", "fp16"]
    assert all(isinstance(row, Run) for row in batch.rows)
