"""What nodes do when not everything is in memory: literal events and instructions, no network, no files."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.energy import ComputePower, RadioPower
from runtime.links import EmulatedLink
from runtime.messages import (
    CHUNK_BYTES,
    Chunk,
    ChunkQuery,
    Decision,
    Failure,
    ManifestFound,
    ManifestQuery,
    Measure,
    NotHere,
    Outcome,
    Ping,
    Result,
    Work,
)
from runtime.protocol.connection import Connection
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.downstream import Downstream
from runtime.protocol.events import Instruction, KeepFile, PartRead, ReadPart, RunMeasure, Send
from runtime.protocol.fetching import ASK_AGAIN_S
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.residency import Residency
from runtime.rates import ConstantRate
from tests.runtime.distribution_helpers import (
    GRAPH_BYTES,
    WEIGHTS_BYTES,
    chunk,
    kept,
    loadable_manifest,
    loaded,
    loads,
    not_here,
    piece,
    sha256,
    stored,
    unloads,
)
from tests.runtime.protocol_helpers import (
    LOGITS,
    computed,
    features,
    hear_from_above,
    image,
    make_identity,
    received,
    runs,
    sent,
    start_episode,
    submit,
    tick,
)

GRAPH, WEIGHTS = loadable_manifest().variants["fp32"].segments["1-3x1"], loadable_manifest().variants["fp32"].weights
ONE_VARIANT = WEIGHTS_BYTES + GRAPH_BYTES
MANIFEST = stored("manifest.json", 7)


def make(
    *, upstream: bool = True, max_bytes: int | None = None, down_link: EmulatedLink | None = None, max_waiting: int = 4
) -> NodeMachine:
    """An edge with nothing in memory."""
    manifest = loadable_manifest()
    up = Connection(None, period_s=0.1, timeout_s=1.0) if upstream else None
    residency, files = Residency([manifest], max_bytes), {"tiny": MANIFEST}
    identity = make_identity("edge", max_waiting=max_waiting)
    edge = NodeMachine(
        identity,
        HostedModels([manifest]),
        up,
        Downstream((lambda: down_link) if down_link is not None else None),
        manifests=files,
        residency=residency,
    )
    if upstream:
        hear_from_above(edge, 0.9)
    return edge


def work(request_id: int, at_s: float, cuts: tuple[int, int] = (1, 3), variant: str = "fp32", budget_s: float = 1.0) -> object:
    given = Decision(model="tiny", variant=variant, cuts=cuts, exit=1)
    tensor = image() if cuts[0] == 0 else features()
    return received(Work(request_id=request_id, decision=given, stage=cuts[0], budget_s=budget_s), [tensor], at_s=at_s, peer=b"device")


def give(edge: NodeMachine, *args: object, **kwargs: object) -> list[Instruction]:
    return edge.handle(work(*args, **kwargs))  # type: ignore[arg-type]


def failures(instructions: list[Instruction]) -> list[Failure]:
    return [message for message in sent(instructions, "down") if isinstance(message, Failure)]


def test_work_waits_for_its_piece_and_says_how_long() -> None:
    """First use loads, then runs, and the span has the wait; second use runs at once."""
    edge = make()
    out = give(edge, 1, 1.0)
    assert (loads(out), runs(out)) == ([piece(1, 3, 1)], [])
    assert [run.request_id for run in runs(edge.handle(loaded(piece(1, 3, 1), 1.4)))] == [1]
    (result,) = sent(edge.handle(computed(1, 1.5, 1.7, [LOGITS])), "down")
    assert isinstance(result, Result)
    (span,) = result.spans
    assert (span.load_s, span.queue_s, span.compute_s, span.dwell_s) == pytest.approx((0.4, 0.1, 0.2, 0.7))
    out = give(edge, 2, 2.0)
    assert (loads(out), [run.request_id for run in runs(out)]) == ([], [2])
    assert edge.telemetry(2.0)[0].loaded == ("tiny/fp32",)


def test_what_is_in_memory_does_not_wait_for_what_is_not() -> None:
    """While one variant loads, work for another is computed."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1))
    edge.handle(computed(1, 1.1, 1.2, [LOGITS]))
    assert loads(give(edge, 2, 1.3, variant="int8")) == [piece(1, 3, 1, "int8")]
    assert [run.request_id for run in runs(give(edge, 3, 1.4))] == [3]


def test_missing_files_are_fetched_chunk_by_chunk_and_loaded_once_all_are_here() -> None:
    """Every missing file is asked for, each chunk after the last came; what came whole is kept, and then the piece loads."""
    edge, big = make(), stored("big", CHUNK_BYTES + 5)
    give(edge, 1, 1.0)
    out = edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH, big)))
    assert sent(out, "up") == [ChunkQuery(sha256=GRAPH.sha256, offset=0), ChunkQuery(sha256=big.sha256, offset=0)]
    (keep,) = edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.2))
    assert isinstance(keep, KeepFile)
    assert loads(edge.handle(kept(GRAPH.sha256, 1.2))) == []
    data = b"a" * CHUNK_BYTES + b"b" * 5
    assert sent(edge.handle(chunk(big.sha256, data, 1.3)), "up") == [ChunkQuery(sha256=big.sha256, offset=CHUNK_BYTES)]
    (keep,) = edge.handle(chunk(big.sha256, data[CHUNK_BYTES:], 1.4, offset=CHUNK_BYTES, whole=len(data)))
    assert isinstance(keep, KeepFile)
    assert b"".join(keep.chunks) == data
    assert loads(edge.handle(kept(big.sha256, 1.5))) == [piece(1, 3, 1)]
    assert len(runs(edge.handle(loaded(piece(1, 3, 1), 1.6)))) == 1


def test_wrong_bytes_are_fetched_once_more_and_then_refused() -> None:
    """A hash that does not match is asked for again from the start; the second time what waits ends as `internal`."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    edge.handle(chunk(GRAPH.sha256, b"x" * GRAPH_BYTES, 1.2))
    assert sent(edge.handle(kept(GRAPH.sha256, 1.3, "corrupt")), "up") == [ChunkQuery(sha256=GRAPH.sha256, offset=0)]
    edge.handle(chunk(GRAPH.sha256, b"x" * GRAPH_BYTES, 1.4))
    out = edge.handle(kept(GRAPH.sha256, 1.5, "corrupt"))
    (failure,) = failures(out)
    assert (failure.status, unloads(out)) == ("internal", [piece(1, 3, 1)])
    assert edge._distribution.counters()["wrong_files"] == 2


@pytest.mark.parametrize(("data", "offset", "whole"), [(b"x" * 9, 0, 10), (b"x" * 10, 0, 11), (b"x" * 11, 0, 11), (b"", 0, 10)], ids=str)
def test_chunks_that_do_not_fit_count_as_wrong_bytes(data: bytes, offset: int, whole: int) -> None:
    """Too short, too long, or of a file of another size than the manifest says: asked for again from the start."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    out = edge.handle(chunk(GRAPH.sha256, data, 1.2, offset=offset, whole=whole))
    assert sent(out, "up") == [ChunkQuery(sha256=GRAPH.sha256, offset=0)]
    assert edge._distribution.counters()["wrong_files"] == 1


def test_chunks_nobody_asked_for_are_ignored() -> None:
    """Of a file that is not fetched, twice the same, or from below: counted, and nothing else."""
    edge = make()
    assert edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.0)) == []
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    from_below = received(Chunk(sha256=GRAPH.sha256, offset=0, num_bytes=10), [np.zeros(10, np.uint8)], at_s=1.2)
    assert edge.handle(from_below) == []
    edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.3))
    assert edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.3)) == []


def test_a_lost_chunk_is_asked_for_again() -> None:
    """After a while without an answer the question goes out once more, from where the file is."""
    edge = make()
    give(edge, 1, 1.0, budget_s=9.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    hear_from_above(edge, 1.1 + ASK_AGAIN_S)
    queries = [message for message in sent(edge.handle(tick(1.1 + ASK_AGAIN_S)), "up") if isinstance(message, ChunkQuery)]
    assert queries == [ChunkQuery(sha256=GRAPH.sha256, offset=0)]


@pytest.mark.parametrize(
    ("reason", "status"), [("unknown", "internal"), ("peer_lost", "peer_lost"), ("storage", "internal"), ("overload", "overload")]
)
def test_what_nobody_above_has_ends_the_request_with_one_reason(reason: str, status: str) -> None:
    """The typed reason from above becomes the request's status."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    (failure,) = failures(edge.handle(not_here(GRAPH.sha256, reason, 1.2)))  # type: ignore[arg-type]
    assert failure.status == status


def test_without_a_node_above_a_missing_file_is_internal() -> None:
    """The topmost node has nobody to ask."""
    edge = make(upstream=False)
    give(edge, 1, 1.0)
    (failure,) = failures(edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,))))
    assert failure.status == "internal"


def test_an_upstream_that_falls_silent_amid_a_fetch_ends_the_request() -> None:
    """Peer lost, in time; and the next request tries again."""
    edge = make()
    give(edge, 1, 1.0, budget_s=9.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    (failure,) = failures(edge.handle(tick(2.5)))
    assert failure.status == "peer_lost"
    hear_from_above(edge, 3.0)
    assert loads(give(edge, 2, 3.0)) == [piece(1, 3, 1)]


def test_a_full_disk_and_a_piece_that_cannot_be_loaded_are_internal() -> None:
    """Neither stops the node: the request ends, and the next tries again."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.2))
    (failure,) = failures(edge.handle(kept(GRAPH.sha256, 1.3, "storage")))
    assert failure.status == "internal"
    assert loads(give(edge, 2, 1.4)) == [piece(1, 3, 1)]
    (failure,) = failures(edge.handle(loaded(piece(1, 3, 1), 1.5, error="no such operator")))
    assert (failure.status, "no such operator" in failure.message) == ("internal", True)


def test_a_file_that_is_gone_again_is_not_fetched_for_ever() -> None:
    """Fetched once for a piece and missing still: the request ends."""
    edge = make()
    give(edge, 1, 1.0)
    edge.handle(loaded(piece(1, 3, 1), 1.1, missing=(GRAPH,)))
    edge.handle(chunk(GRAPH.sha256, b"g" * GRAPH_BYTES, 1.2))
    edge.handle(kept(GRAPH.sha256, 1.3))
    assert [failure.status for failure in failures(edge.handle(loaded(piece(1, 3, 1), 1.4, missing=(GRAPH,))))] == ["internal"]


def test_a_deadline_ends_the_wait_and_the_load_goes_on() -> None:
    """The request fails in time; what was under way arrives and serves the next one at once."""
    edge = make()
    give(edge, 1, 1.0, budget_s=0.2)
    (failure,) = failures(edge.handle(tick(1.2)))
    assert (failure.status, "for its model" in failure.message) == ("deadline", True)
    assert runs(edge.handle(loaded(piece(1, 3, 1), 1.5))) == []
    assert [run.request_id for run in runs(give(edge, 2, 1.6))] == [2]


def test_variants_evict_each_other_but_never_what_is_in_use() -> None:
    """Room for one variant: the second waits until the first is computed, then takes its place; and the other way round."""
    edge = make(max_bytes=ONE_VARIANT)
    give(edge, 1, 1.0)
    assert len(runs(edge.handle(loaded(piece(1, 3, 1), 1.1)))) == 1
    assert loads(give(edge, 2, 1.2, variant="int8")) == []  # the first runs
    out = edge.handle(computed(1, 1.1, 1.3, [LOGITS]))
    assert (unloads(out), loads(out)) == ([piece(1, 3, 1)], [piece(1, 3, 1, "int8")])
    assert len(runs(edge.handle(loaded(piece(1, 3, 1, "int8"), 1.4)))) == 1
    edge.handle(computed(2, 1.4, 1.5, [LOGITS]))
    assert (loads(give(edge, 3, 1.6)), edge.telemetry(1.6)[0].loaded) == ([piece(1, 3, 1)], ())


def test_what_runs_for_a_request_that_has_ended_is_in_use() -> None:
    """A deadline that passes while the worker computes must not unload what it computes with."""
    edge = make(max_bytes=ONE_VARIANT)
    give(edge, 1, 1.0, budget_s=0.3)
    edge.handle(loaded(piece(1, 3, 1), 1.1))
    assert len(failures(edge.handle(tick(1.3)))) == 1
    assert unloads(give(edge, 2, 1.4, variant="int8")) == []
    assert unloads(edge.handle(computed(1, 1.1, 1.5, [LOGITS]))) == [piece(1, 3, 1)]


def test_what_can_never_fit_is_refused_at_once() -> None:
    """More bytes than the budget has: overload, with both figures."""
    edge = make(max_bytes=ONE_VARIANT - 1)
    (failure,) = failures(give(edge, 1, 1.0))
    assert (failure.status, str(ONE_VARIANT) in failure.message) == ("overload", True)


def test_the_line_for_memory_is_bounded_and_forgotten_by_a_new_episode() -> None:
    """One more than may wait is refused; a new episode begins with nobody waiting, and what loads meanwhile harms nobody."""
    edge = make(max_waiting=2)
    statuses = [[failure.status for failure in failures(give(edge, request_id, 1.0))] for request_id in range(3)]
    assert statuses == [[], [], ["overload"]]
    edge.handle(start_episode(1, 1.1))
    assert runs(edge.handle(loaded(piece(1, 3, 1), 1.2))) == []
    assert len(runs(give(edge, 0, 1.3))) == 1


def test_an_episode_begins_with_nothing_loaded_but_what_runs() -> None:
    """Policies that are compared in turn begin alike; what the worker computes with, and what is being loaded, goes nowhere."""
    edge = make()
    for request_id, variant in enumerate(("fp32", "int8")):
        give(edge, request_id, 1.0, variant=variant)
        edge.handle(loaded(piece(1, 3, 1, variant), 1.1))
    edge.handle(computed(0, 1.1, 1.2, [LOGITS]))
    give(edge, 2, 1.3, cuts=(0, 3))
    assert unloads(edge.handle(start_episode(1, 1.4))) == [piece(1, 3, 1)]
    assert edge.telemetry(1.4)[0].loaded == ("tiny/int8",)
    assert unloads(edge.handle(start_episode(1, 1.5))) == []
    edge.handle(loaded(piece(0, 3, 1), 1.6))
    edge.handle(computed(1, 1.2, 1.7, [LOGITS]))
    assert unloads(edge.handle(start_episode(2, 1.8))) == [piece(1, 3, 1, "int8"), piece(0, 3, 1)]


def test_what_was_loaded_before_the_node_served_stays() -> None:
    """Whoever preloads, within bounds or not, begins every episode so."""
    residency = Residency([loadable_manifest()], None)
    residency.admit([piece(1, 3, 1)], ())
    edge = NodeMachine(make_identity("edge"), HostedModels([loadable_manifest()]), None, Downstream(None), residency=residency)
    assert unloads(edge.handle(start_episode(1, 1.0))) == []
    assert len(runs(give(edge, 1, 1.1))) == 1


def test_a_measurement_waits_for_its_piece_too() -> None:
    """It is queued once the piece is in memory; when that fails the asker hears it."""
    edge = make(upstream=False)
    ask = Measure(request_id=9, model="tiny", variant="fp32", start=0, stop=1, exit=None, repeats=3)
    assert loads(edge.handle(received(ask, at_s=1.0, peer=b"client"))) == [piece(0, 1)]
    (job,) = edge.handle(loaded(piece(0, 1), 1.1))
    assert isinstance(job, RunMeasure)
    edge.handle(received(Measure(request_id=10, model="tiny", variant="int8", start=0, stop=1, exit=None, repeats=3), at_s=1.2))
    (failure,) = failures(edge.handle(loaded(piece(0, 1, variant="int8"), 1.3, missing=(GRAPH,))))
    assert (failure.request_id, failure.status) == (10, "internal")


def test_measurements_in_the_line_for_memory_are_bounded_and_refused_by_a_new_episode() -> None:
    """As requests are: the third is told at once that too many wait, the two that do wait when an episode begins."""
    edge = make(max_waiting=2)
    asks = [Measure(request_id=number, model="tiny", variant="fp32", start=0, stop=1, exit=None, repeats=3) for number in (7, 8, 9)]
    refused = [failures(edge.handle(received(ask, at_s=1.0))) for ask in asks]
    assert refused[:2] == [[], []]
    assert [(failure.request_id, failure.status) for failure in refused[2]] == [(9, "overload")]
    ended = failures(edge.handle(start_episode(2, 1.1)))
    assert [(failure.request_id, failure.status) for failure in ended] == [(7, "peer_lost"), (8, "peer_lost")]


def test_the_devices_outcome_tiles_with_the_load() -> None:
    """On the device too: load_s is a part of the whole, and the parts sum to the latency."""
    manifest = loadable_manifest()
    device = DeviceMachine(
        make_identity("device"),
        HostedModels([manifest]),
        None,
        max_in_flight=4,
        decision_budget_s=0.02,
        compute_power=ComputePower(),
        radio_power=RadioPower(),
        residency=Residency([manifest], None),
    )
    given = Decision(model="tiny", variant="fp32", cuts=(3, 3), exit=1)
    assert loads(device.handle(submit(1, 1.0, given))) == [piece(0, 3, 1)]
    device.handle(loaded(piece(0, 3, 1), 1.3))
    (outcome,) = sent(device.handle(computed(1, 1.35, 1.5, [LOGITS])), "down")
    assert isinstance(outcome, Outcome)
    assert outcome.breakdown.load_s == pytest.approx((0.3, 0.0, 0.0))
    assert outcome.breakdown.queue_s[0] == pytest.approx(0.05)
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)
    device.handle(submit(2, 2.0, given))
    device.handle(submit(3, 2.0, Decision(model="tiny", variant="int8", cuts=(3, 3), exit=1), deadline_s=0.25))
    (late,) = sent(device.handle(tick(2.25)), "down")
    assert isinstance(late, Outcome)
    assert (late.status, late.breakdown.load_s[0]) == ("deadline", pytest.approx(0.25))
    assert late.breakdown.total_s() == pytest.approx(late.latency_s)


# ------------------------------------------------------------ serving those below


def read(out: list[Instruction]) -> ReadPart:
    (part,) = [item for item in out if isinstance(item, ReadPart)]
    return part


def test_those_below_are_told_of_manifests_and_given_parts() -> None:
    """A manifest by name, a part by hash and offset, as a payload over the emulated link."""
    link = EmulatedLink(ConstantRate(bytes_per_s=100.0), 0.5, 0.0, "uplink", "down")
    edge = make(down_link=link)
    edge.handle(start_episode(1, 0.5))
    (found,) = sent(edge.handle(received(ManifestQuery(model="tiny"), at_s=1.0, peer=b"device")), "down")
    assert found == ManifestFound(model="tiny", sha256=MANIFEST.sha256, num_bytes=7)
    edge.handle(received(Ping(sequence=1), at_s=1.0, peer=b"device"))
    part = read(edge.handle(received(ChunkQuery(sha256=GRAPH.sha256, offset=0), at_s=1.0, peer=b"device")))
    (send,) = edge.handle(PartRead(part=part, at_s=2.0, data=b"g" * 10, num_bytes=10))
    assert isinstance(send, Send)
    assert (send.peer, sent([send], "down")) == (b"device", [Chunk(sha256=GRAPH.sha256, offset=0, num_bytes=10)])
    size = sum(len(frame) for frame in send.frames)
    assert send.release_at_s == pytest.approx(2.0 + size / 100.0 + 0.5)


def test_a_relay_fetches_for_those_below_keeps_and_passes_on() -> None:
    """A file that is not here comes from above once, however many ask, and is then read like any other."""
    edge, name = make(), sha256(b"a file of another model")
    parts = [read(edge.handle(received(ChunkQuery(sha256=name, offset=0), at_s=1.0, peer=peer))) for peer in (b"one", b"two")]
    out = [edge.handle(PartRead(part=part, at_s=1.1, data=None)) for part in parts]
    assert [sent(one, "up") for one in out] == [[ChunkQuery(sha256=name, offset=0)], []]
    (keep,) = edge.handle(chunk(name, b"12345", 1.2))
    assert isinstance(keep, KeepFile)
    again = edge.handle(kept(name, 1.3))
    assert [(one.peer, one.fetched) for one in again if isinstance(one, ReadPart)] == [(b"one", True), (b"two", True)]
    (gone,) = sent(edge.handle(PartRead(part=again[0], at_s=1.4, data=None)), "down")  # type: ignore[arg-type]
    assert isinstance(gone, NotHere)
    assert gone.reason == "storage"


def test_a_relay_asks_above_for_manifests_it_does_not_have() -> None:
    """And passes on what it hears, whether it is the manifest or that there is none."""
    edge, query = make(), ManifestQuery(model="other")
    assert sent(edge.handle(received(query, at_s=1.0, peer=b"device")), "up") == [query]
    found = ManifestFound(model="other", sha256=sha256(b"m"), num_bytes=1)
    assert sent(edge.handle(received(found, at_s=1.1, source="up")), "down") == [found]
    edge.handle(received(query, at_s=1.2, peer=b"device"))
    (answer,) = sent(edge.handle(not_here("other", "unknown", 1.3)), "down")
    assert isinstance(answer, NotHere)
    assert answer.reason == "unknown"


@pytest.mark.parametrize(("upstream", "at_s", "reason"), [(False, 1.0, "unknown"), (True, 5.0, "peer_lost")])
def test_with_nobody_to_ask_those_below_are_refused_with_the_reason(upstream: bool, at_s: float, reason: str) -> None:
    """The topmost node does not know it; a node whose upstream is silent says that."""
    edge, name = make(upstream=upstream), sha256(b"unheard of")
    part = read(edge.handle(received(ChunkQuery(sha256=name, offset=0), at_s=at_s, peer=b"device")))
    answers = [
        *sent(edge.handle(received(ManifestQuery(model="other"), at_s=at_s, peer=b"device")), "down"),
        *sent(edge.handle(PartRead(part=part, at_s=at_s, data=None)), "down"),
    ]
    assert [answer.reason for answer in answers if isinstance(answer, NotHere)] == [reason, reason]
