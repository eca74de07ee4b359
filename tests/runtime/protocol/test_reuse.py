"""What nodes with a cache or a filter answer without computing, and what they never do."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.codec import from_frames
from runtime.codecs.parcel import pack
from runtime.inference.cache import CacheConfig
from runtime.inference.cache.parcels import parcel_fingerprint
from runtime.inference.filter import FilterConfig
from runtime.messages import (
    Ack,
    Decided,
    Decision,
    Failure,
    Observation,
    Outcome,
    Result,
    Span,
    StartEpisode,
    StatusQuery,
    StatusReport,
    TensorSpec,
    Work,
)
from runtime.models.manifest import Manifest
from runtime.protocol.answer_memory import AnswerMemory
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.events import Inspect, Inspected, Instruction, Run
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.node_machine import NodeMachine
from runtime.protocol.task import DeviceTask, Task
from tests.runtime.protocol_helpers import LOGITS, decision, features, received, runs, sent, tick, tiny_manifest
from tests.runtime.reuse_helpers import (
    LOOK_S,
    ask,
    caching_device,
    caching_node,
    compute_on_device,
    looked,
    outcome_of,
    picture,
    result_of,
    settle,
    work_of,
    worked,
)

EDGE_ALL, EDGE_CUT = decision((0, 3)), decision((1, 3))
OTHER_LOGITS = np.array([[3.0, 0.0, 1.0]], dtype=np.float32)


def two_variants() -> Manifest:
    """The tiny model in two variants, int8 measured less accurate, both with thresholds."""
    bare = tiny_manifest()
    info = msgspec.structs.replace(bare.variants["fp32"], exit_thresholds=(0.5,), exit_shares=(0.5, 0.5))
    accuracies = {"fp32": (0.8, 0.9), "int8": (0.7, 0.85)}
    variants = {name: msgspec.structs.replace(info, accuracy={"validation": values}) for name, values in accuracies.items()}
    return msgspec.structs.replace(bare, variants=variants)


def test_each_model_s_inputs_are_sketched_as_its_own() -> None:
    """Two models with inputs of different shapes on one node with a cache for similar inputs: both are looked at."""
    tiny = tiny_manifest()
    wide = TensorSpec(shape=(1, 1, 4, 4), dtype="uint8")
    cuts = ((wide,), *tiny.variants["fp32"].cuts[1:])
    other = msgspec.structs.replace(tiny, model="other", variants={"fp32": msgspec.structs.replace(tiny.variants["fp32"], cuts=cuts)})
    memory = AnswerMemory(CacheConfig(max_distance=8), HostedModels([tiny, other]))
    for manifest in (tiny, other):
        values = np.arange(np.prod(manifest.input.shape), dtype=np.uint8).reshape(manifest.input.shape)
        asked = DeviceTask(request_id=1, peer=b"", arrived_at_s=0.0, expires_at_s=1.0, model=manifest.model, parcel=pack([values]))
        given = Task(request_id=1, peer=b"", arrived_at_s=0.0, expires_at_s=1.0, parcel=pack([values]))
        given.decision = msgspec.structs.replace(EDGE_ALL, model=manifest.model)
        looks = [memory.inspect(task, 0, 1.0) for task in (asked, given)]
        first, second = (parcel_fingerprint(look.parcel, look.sketcher) for look in looks)
        assert first == second
        assert first is not None
        assert first.sketch is not None


def a_run(request_id: int) -> Run:
    """The whole model, as the machine would have it run."""
    return Run(request_id=request_id, model="tiny", variant="fp32", start=0, stop=3, exit=1, parcel=pack([]), codec="identity", slowdown=1)


def compute_on_edge(
    node: NodeMachine, request_id: int, at_s: float, given: Decision, stage: int, tensor: np.ndarray, **more: str
) -> Result:
    (run,) = runs(settle(node, work_of(request_id, at_s, given, stage, tensor, **more)))  # type: ignore[arg-type]
    return result_of(node.handle(worked(run, at_s + LOOK_S)))


def counters(node: NodeMachine, at_s: float) -> dict[str, int]:
    (status,) = sent(node.handle(received(StatusQuery(request_id=99), at_s=at_s)), "down")
    assert isinstance(status, StatusReport)
    return status.counters


# ---------------------------------------------------------------- hits


def test_the_same_picture_again_is_answered_by_the_device_at_once() -> None:
    """Nothing computed, nothing sent up, the same answer, and the parts tile the latency."""
    device = caching_device()
    first = compute_on_device(device, 1, 1.0, picture())
    out = settle(device, ask(2, 2.0, picture(), decision((3, 3))))
    second = outcome_of(out)
    assert (first.reused, first.reused_at) == ("no", None)
    assert (second.reused, second.reused_at) == ("cache-exact", "device")
    assert (second.prediction, second.confidence, second.exit) == (first.prediction, first.confidence, first.exit)
    assert runs(out) == sent(out, "up") == []
    assert second.link_bytes == second.down_bytes == (0, 0)
    assert second.breakdown.reuse_s == pytest.approx((LOOK_S, 0.0, 0.0))
    assert second.breakdown.total_s() == pytest.approx(second.latency_s) == pytest.approx(LOOK_S)
    assert second.energy_joules == pytest.approx(2.0 * LOOK_S)
    assert first.breakdown.total_s() == pytest.approx(first.latency_s) == pytest.approx(0.1 + LOOK_S)
    assert first.energy_joules == pytest.approx(2.0 * (0.1 + LOOK_S))


@pytest.mark.parametrize(("given_", "stage"), [(EDGE_ALL, 0), (EDGE_CUT, 1)])
def test_the_same_work_again_is_answered_by_the_edge_at_once(given_: Decision, stage: int) -> None:
    """Raw input or a cut's tensors: acknowledged, not computed, the same logits, and the span says what it took."""
    edge, tensor = caching_node(), picture() if stage == 0 else features()
    compute_on_edge(edge, 1, 1.0, given_, stage, tensor)
    out = settle(edge, work_of(2, 2.0, given_, stage, tensor))
    result = result_of(out)
    assert [type(message) for message in sent(out, "down")] == [Ack, Result]
    assert (result.reused, result.reused_at, result.exit) == ("cache-exact", "edge", 1)
    assert runs(out) == sent(out, "up") == []
    (span,) = result.spans
    assert (span.reuse_s, span.dwell_s, span.queue_s, span.compute_s) == pytest.approx((LOOK_S, LOOK_S, 0.0, 0.0))
    (logits,) = [from_frames(item.frames)[1] for item in out if getattr(item, "target", "") == "down"][1]  # type: ignore[union-attr]
    np.testing.assert_array_equal(logits, LOGITS)


def test_the_edge_remembers_what_the_cloud_computed() -> None:
    """Work that goes on to the cloud once is answered at the edge afterwards."""
    edge = caching_node()
    assert len(sent(settle(edge, work_of(1, 1.0, decision((0, 0)), 0, picture())), "up")) == 1
    edge.handle(received(Result(request_id=1, exit=1, spans=(Span(),)), [LOGITS], at_s=1.2, source="up"))
    out = settle(edge, work_of(2, 2.0, decision((0, 0)), 0, picture()))
    assert sent(out, "up") == []
    assert result_of(out).reused == "cache-exact"


def test_a_hit_above_is_told_below_and_stored_by_nobody_else() -> None:
    """The device says where the answer came from, its parts tile, and it does not take over what it did not see computed."""
    device = caching_device()
    for request_id in (1, 2):
        assert len(sent(settle(device, ask(request_id, request_id, picture(), decision((0, 3)))), "up")) == 1
        spans = (Span(dwell_s=0.01, reuse_s=0.004),)
        result = Result(request_id=request_id, exit=1, spans=spans, reused="cache-similar", reused_at="edge")
        outcome = outcome_of(device.handle(received(result, [LOGITS], at_s=request_id + 0.1, source="up")))
        assert (outcome.reused, outcome.reused_at) == ("cache-similar", "edge")
        assert outcome.breakdown.reuse_s == pytest.approx((LOOK_S, 0.004, 0.0))
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)
        assert outcome.link_bytes[0] > 0


def test_the_cache_is_asked_after_the_decision() -> None:
    """The controller is asked for every request; its decision says what is looked up."""
    device = caching_device(controller=True)
    for request_id in (1, 2):
        (asked,) = sent(settle(device, ask(request_id, float(request_id), picture())), "controller")
        assert isinstance(asked, Observation)
        assert asked.num_in_flight == 0
        out = device.handle(
            received(Decided(request_id=request_id, decision=decision((3, 3))), at_s=request_id + 0.01, source="controller")
        )
        if request_id == 1:
            device.handle(worked(runs(out)[0], 1.02))
    outcome = outcome_of(out)
    assert (outcome.reused, outcome.decided_by) == ("cache-exact", "controller")
    assert outcome.breakdown.decision_s == pytest.approx(0.01 - LOOK_S)
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


def test_a_decision_that_comes_before_its_question_is_not_taken() -> None:
    """While the input is still being looked at nobody has been asked."""
    device = caching_device(controller=True)
    (inspect,) = device.handle(ask(1, 1.0, picture()))
    assert device.handle(received(Decided(request_id=1, decision=decision((3, 3))), at_s=1.0001, source="controller")) == []
    assert isinstance(inspect, Inspect)
    assert len(sent(device.handle(looked(inspect, 1.001)), "controller")) == 1


# ---------------------------------------------------------------- what is not shared


def test_what_differs_in_anything_that_decides_the_answer_is_a_miss() -> None:
    """Another picture, tenant, variant or exit, or leaving early, is another question."""
    device = caching_device(manifest=two_variants())
    asked = [
        (picture(), decision((3, 3)), ""),
        (picture(1), decision((3, 3)), ""),
        (picture(), decision((3, 3)), "someone"),
        (picture(), msgspec.structs.replace(decision((3, 3)), variant="int8"), ""),
        (picture(), decision((2, 2), exit=0), ""),
        (picture(), msgspec.structs.replace(decision((3, 3)), early_exit=True), ""),
    ]
    for at_s in (1.0, 3.0):
        for index, (image, chosen, tenant) in enumerate(asked):
            out = settle(device, ask(index, at_s + 0.2 * index, image, chosen, tenant=tenant))
            for run in runs(out):
                device.handle(worked(run, at_s + 0.2 * index, exit=chosen.exit))
            assert len(runs(out)) == (at_s == 1.0)
    assert (counters(device, 9.0)["cache_misses"], counters(device, 9.0)["cache_hits_exact"]) == (6, 6)


def test_where_it_is_cut_does_not_matter_to_a_raw_inputs_answer() -> None:
    """The cuts say where, not what: computed on the edge, the answer serves a request for the device."""
    device = caching_device()
    settle(device, ask(1, 1.0, picture(), decision((0, 3))))
    device.handle(received(Result(request_id=1, exit=1, spans=(Span(),)), [LOGITS], at_s=1.2, source="up"))
    assert outcome_of(settle(device, ask(2, 2.0, picture(), decision((3, 3))))).reused == "cache-exact"


def test_a_no_less_accurate_form_serves_where_that_is_allowed() -> None:
    """fp32's answer serves int8's question, int8's never fp32's."""
    int8, fp32 = msgspec.structs.replace(decision((3, 3)), variant="int8"), decision((3, 3))
    for first, second, hit in ((fp32, int8, True), (int8, fp32, False)):
        device = caching_device(CacheConfig(any_form=True), manifest=two_variants())
        device.handle(worked(runs(settle(device, ask(1, 1.0, picture(), first)))[0], 1.0))
        assert (runs(settle(device, ask(2, 2.0, picture(), second))) == []) is hit


def test_tenants_travel_up() -> None:
    """The edge looks up under the tenant that the client named."""
    device = caching_device()
    (up,) = sent(settle(device, ask(1, 1.0, picture(), decision((0, 3)), tenant="someone")), "up")
    assert isinstance(up, Work)
    assert up.tenant == "someone"


def test_an_early_exits_answer_is_remembered_as_that_exits() -> None:
    """Left at exit 0 under a decision for exit 1: the hit says exit 0, with its logits."""
    device = caching_device(manifest=two_variants())
    early = msgspec.structs.replace(decision((3, 3)), early_exit=True)
    first = outcome_of(device.handle(worked(runs(settle(device, ask(1, 1.0, picture(), early)))[0], 1.0, OTHER_LOGITS, exit=0)))
    second = outcome_of(settle(device, ask(2, 2.0, picture(), early)))
    assert (first.exit, first.prediction) == (second.exit, second.prediction) == (0, 0)
    assert second.reused == "cache-exact"


def test_a_fresh_request_is_computed_and_not_remembered() -> None:
    """Whatever is known, on every node on its way."""
    device = caching_device()
    compute_on_device(device, 1, 1.0, picture())
    out = device.handle(ask(2, 2.0, picture(), decision((0, 3)), fresh=True))
    (up,) = sent(out, "up")
    assert isinstance(up, Work)
    assert up.fresh
    edge = caching_node()
    for request_id in (1, 2):
        assert len(runs(edge.handle(work_of(request_id, request_id, EDGE_ALL, 0, picture(), fresh=True)))) == 1
        edge.handle(worked(a_run(request_id), request_id))
    assert counters(edge, 9.0)["cache_stored"] == 0


# ---------------------------------------------------------------- similar inputs


@pytest.mark.parametrize(("max_distance", "kind"), [(None, "no"), (0, "no"), (256, "cache-similar")])
def test_a_similar_picture_is_served_within_the_bound_only(max_distance: int | None, kind: str) -> None:
    """Two pictures of different sketches: without a bound, or within too small a one, the second is computed."""
    device = caching_device(CacheConfig(max_distance=max_distance))
    compute_on_device(device, 1, 1.0, picture(3))
    out = settle(device, ask(2, 2.0, picture(200), decision((3, 3))))
    assert (outcome_of(out).reused if kind != "no" else len(runs(out))) == (kind if kind != "no" else 1)


def test_the_tensors_of_a_cut_are_served_by_equal_ones_only() -> None:
    """A bound for pictures says nothing about features."""
    edge = caching_node(CacheConfig(max_distance=256))
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((1, 4)).astype(np.float32)
    compute_on_edge(edge, 1, 1.0, EDGE_CUT, 1, tensor)
    assert len(runs(settle(edge, work_of(2, 2.0, EDGE_CUT, 1, tensor * np.float32(1.001))))) == 1


# ---------------------------------------------------------------- what is never stored


@pytest.mark.parametrize(
    "ending",
    [
        lambda run: msgspec.structs.replace(worked(run, 1.0), error="x"),
        lambda run: msgspec.structs.replace(worked(run, 1.0), error="x", bad_input=True),
        lambda run: worked(run, 1.0, np.array([[np.nan, 0, 1]], dtype=np.float32)),
        lambda run: worked(run, 1.0, np.zeros((1, 2), dtype=np.float32)),
        lambda run: worked(run, 1.0, exit=0),
        lambda run: tick(2.5),
    ],
    ids=["internal", "bad-input", "not-finite", "too-few-classes", "another-exit", "deadline"],
)
def test_only_answers_are_stored(ending: object) -> None:
    """A request that failed, or whose answer cannot be, leaves nothing behind on the edge."""
    edge = caching_node()
    (run,) = runs(settle(edge, work_of(1, 1.0, EDGE_ALL, 0, picture())))
    edge.handle(ending(run))  # type: ignore[operator]
    assert counters(edge, 3.0)["cache_stored"] == 0


def test_an_answer_from_below_is_not_believed() -> None:
    """A client that sends a Result for somebody's request neither ends it nor gets it remembered."""
    edge = caching_node()
    settle(edge, work_of(1, 1.0, decision((0, 0)), 0, picture()))
    assert edge.handle(received(Result(request_id=1, exit=1, spans=()), [OTHER_LOGITS], at_s=1.1, peer=b"client")) == []
    assert counters(edge, 2.0)["cache_stored"] == 0


def test_an_input_that_cannot_be_looked_at_is_bad_input() -> None:
    """The request fails, says why, and is not stored."""
    edge = caching_node()
    (inspect,) = [item for item in edge.handle(work_of(1, 1.0, EDGE_ALL, 0, picture())) if isinstance(item, Inspect)]
    failed = Inspected(request_id=1, parcel=inspect.parcel, started_at_s=1.0, finished_at_s=1.1, at_s=1.1, error="no such frame")
    (failure,) = sent(edge.handle(failed), "down")
    assert isinstance(failure, Failure)
    assert (failure.status, failure.message) == ("bad_input", "no such frame")
    assert counters(edge, 2.0)["cache_stored"] == 0


def test_a_known_answer_does_not_come_after_the_deadline() -> None:
    """A look that takes longer than the request has time ends it as any other delay does."""
    device = caching_device()
    compute_on_device(device, 1, 1.0, picture())
    (inspect,) = device.handle(ask(2, 2.0, picture(), decision((3, 3))))
    assert isinstance(inspect, Inspect)
    outcome = outcome_of(device.handle(looked(inspect, 3.5)))
    assert (outcome.status, outcome.reused) == ("deadline", "no")
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


def test_a_look_that_comes_late_does_nothing() -> None:
    """After its request failed, even if another request has taken its id: parcels are told apart, not ids."""
    edge = caching_node()
    (inspect,) = [item for item in edge.handle(work_of(1, 1.0, EDGE_ALL, 0, picture())) if isinstance(item, Inspect)]
    edge.handle(tick(2.5))
    assert edge.handle(looked(inspect, 2.6)) == []
    edge.handle(work_of(1, 3.0, EDGE_ALL, 0, picture(9)))
    assert edge.handle(looked(inspect, 3.1)) == []
    assert counters(edge, 3.2)["late_inspections"] == 2


# ---------------------------------------------------------------- leaving


def test_answers_age() -> None:
    """At the end of its lifetime an answer is computed anew."""
    device = caching_device(CacheConfig(ttl_s=5.0))
    compute_on_device(device, 1, 1.0, picture())
    assert outcome_of(settle(device, ask(2, 5.0, picture(), decision((3, 3))))).reused == "cache-exact"
    assert len(runs(settle(device, ask(3, 7.0, picture(), decision((3, 3)))))) == 1


def test_a_budget_of_nothing_keeps_nothing() -> None:
    """Everything is computed and nothing refused to the client."""
    device = caching_device(CacheConfig(max_bytes=0))
    for at_s in (1.0, 2.0):
        assert compute_on_device(device, 1, at_s, picture()).status == "ok"
    assert counters(device, 3.0)["cache_refused"] == 2


@pytest.mark.parametrize("node", ["device", "edge"])
def test_an_episode_begins_with_nothing_remembered(node: str) -> None:
    """Episodes must be comparable; the counters of before stay."""
    start = received(StartEpisode(seed=1, starts_in_s=0.5), at_s=2.0)
    if node == "device":
        device = caching_device()
        compute_on_device(device, 1, 1.0, picture())
        device.handle(start)
        assert len(runs(settle(device, ask(2, 3.0, picture(), decision((3, 3)))))) == 1
        assert counters(device, 4.0)["cache_stored"] == 1
    else:
        edge = caching_node()
        compute_on_edge(edge, 1, 1.0, EDGE_ALL, 0, picture())
        edge.handle(start)
        assert len(runs(settle(edge, work_of(2, 3.0, EDGE_ALL, 0, picture())))) == 1


def test_without_a_cache_nothing_is_looked_at() -> None:
    """The default is what it was: the same instructions, and no counters of a cache."""
    device, edge = caching_device(None), caching_node(None)
    for request_id in (1, 2):
        assert [type(item) for item in device.handle(ask(request_id, request_id, picture(), decision((3, 3)), stream="door"))] == [Run]
        device.handle(worked(a_run(request_id), request_id))
    assert len(runs(edge.handle(work_of(1, 1.0, EDGE_ALL, 0, picture())))) == 1
    assert not any(name.startswith(("cache_", "filter_")) for name in counters(device, 4.0))


# ---------------------------------------------------------------- streams


FILTER = FilterConfig(threshold=4.0, max_age_s=10.0)


def test_an_unchanged_frame_is_answered_as_the_last_processed_one() -> None:
    """Without asking anybody for a decision, computing or sending; another stream knows nothing of it."""
    device = caching_device(None, filter=FILTER)
    first = compute_on_device(device, 1, 1.0, picture(100), stream="door")
    out = settle(device, ask(2, 2.0, picture(101), stream="door"))
    second = outcome_of(out)
    assert (second.status, second.reused, second.reused_at, second.decision) == ("ok", "filter-unchanged", "device", None)
    assert (second.prediction, second.confidence, second.exit) == (first.prediction, first.confidence, first.exit)
    assert second.breakdown.reuse_s[0] == pytest.approx(LOOK_S)
    assert second.breakdown.total_s() == pytest.approx(second.latency_s)
    assert runs(out) == sent(out, "up") == sent(out, "controller") == []
    assert compute_on_device(device, 3, 2.5, picture(100), stream="garden").reused == "no"
    assert compute_on_device(device, 4, 2.7, picture(100), stream="door", tenant="someone").reused == "no"
    assert compute_on_device(device, 5, 2.9, picture(200), stream="door").reused == "no"


def test_a_frame_is_compared_with_processed_ones_only() -> None:
    """A frame that failed answers nothing: the next one is processed."""
    device = caching_device(None, filter=FILTER)
    (run,) = runs(settle(device, ask(1, 1.0, picture(100), decision((3, 3)), stream="door")))
    device.handle(msgspec.structs.replace(worked(run, 1.0), error="broken"))
    assert compute_on_device(device, 2, 2.0, picture(100), stream="door").reused == "no"
    assert counters(device, 3.0)["filter_first"] == 2


def test_an_episode_begins_with_no_frame_known() -> None:
    """As with caches."""
    device = caching_device(None, filter=FILTER)
    compute_on_device(device, 1, 1.0, picture(100), stream="door")
    device.handle(received(StartEpisode(seed=1, starts_in_s=0.5), at_s=2.0))
    assert len(runs(settle(device, ask(2, 3.0, picture(100), decision((3, 3)), stream="door")))) == 1


def test_similar_answers_are_no_frames_answers() -> None:
    """What a similar picture was answered with is not handed on to unchanged frames: errors must not breed."""
    device = caching_device(CacheConfig(max_distance=256), filter=FILTER)
    compute_on_device(device, 1, 1.0, picture(3))
    assert outcome_of(settle(device, ask(2, 2.0, picture(200), decision((3, 3)), stream="door"))).reused == "cache-similar"
    assert counters(device, 2.5)["filter_first"] == 1
    settle(device, ask(3, 3.0, picture(200), decision((3, 3)), stream="door"))
    assert counters(device, 3.5)["filter_first"] == 2


# ---------------------------------------------------------------- all histories


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "a"]), st.sampled_from(["ok", "fail", "episode"])), max_size=25))
def test_a_hit_is_always_the_answer_that_was_computed_for_that_input(steps: list[tuple[int, str, str]]) -> None:
    """Whatever came before: hits are exactly the inputs computed since the episode began, with their own logits."""
    device, known, at_s = caching_device(), set[tuple[int, str]](), 1.0
    for request_id, (level, tenant, ending) in enumerate(steps):
        at_s += 2.0
        if ending == "episode":
            device.handle(received(StartEpisode(seed=1, starts_in_s=0.5), at_s=at_s))
            known.clear()
            continue
        answer = np.array([[level, 1.5, 0.5]], dtype=np.float32)
        out = settle(device, ask(request_id, at_s, picture(level), decision((3, 3)), tenant=tenant))
        assert (runs(out) == []) is ((level, tenant) in known)
        outcome = finish(device, out, at_s, answer, fails=ending == "fail")
        if outcome.status == "ok":
            known.add((level, tenant))
            assert outcome.prediction == int(answer.argmax())
        assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s)


def finish(device: DeviceMachine, out: list[Instruction], at_s: float, answer: np.ndarray, *, fails: bool) -> Outcome:
    if not runs(out):
        return outcome_of(out)
    done = worked(runs(out)[0], at_s + LOOK_S, answer)
    return outcome_of(device.handle(msgspec.structs.replace(done, error="broken") if fails else done))
