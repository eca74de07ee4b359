"""Caches and stream filters in real processes: what comes again is answered at once, and only what may be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.codec import seal
from runtime.codecs.parcel import pack
from runtime.inference.cache import CacheConfig, Sketcher, fingerprint
from runtime.inference.engine import Engine
from runtime.inference.filter import FilterConfig
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import Ack, Decision, EpisodeStarted, Failure, Message, Outcome, Result, StartEpisode, Work
from runtime.models.examples import load_examples
from runtime.session import Session
from runtime.topology import TierConfig, Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers

MAX_DISTANCE = 16
TOPOLOGY = Topology(
    device=TierConfig(cache=CacheConfig(max_distance=MAX_DISTANCE), filter=FilterConfig(threshold=4.0, max_age_s=600.0)),
    edge=TierConfig(cache=CacheConfig()),
    telemetry_period_s=0.05,
)
_images_used = itertools.count()


@pytest.fixture(scope="module")
def nodes(digits_model: Path) -> Iterator[RunningNodes]:
    with launch_nodes(TOPOLOGY, digits_model) as running:
        yield running


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    with Context() as context:
        yield context


@pytest.fixture(scope="module")
def session(nodes: RunningNodes, context: Context) -> Iterator[Session]:
    with Session(context, nodes.device_address) as session:
        wait_for_all_tiers(session)
        yield session


@pytest.fixture(scope="module")
def edge(nodes: RunningNodes, context: Context) -> Iterator[Session]:
    with Session(context, nodes.edge_address) as session:
        yield session


@pytest.fixture(scope="module")
def images(digits_model: Path) -> list[np.ndarray]:
    """Pictures of the test split that are far from each other, so that none is similar to another."""
    taken: list[np.ndarray] = []
    sketches: list[int] = []
    sketcher = Sketcher([Engine(digits_model).manifest.input])
    for image in load_examples(digits_model, "test").images:
        sketch = int.from_bytes(fingerprint([image], sketcher).sketch or b"")
        if all((sketch ^ other).bit_count() > 2 * MAX_DISTANCE for other in sketches):
            taken.append(image)
            sketches.append(sketch)
    return taken


@pytest.fixture
def image(images: list[np.ndarray]) -> np.ndarray:
    """A picture that no other test has sent."""
    return images[next(_images_used)]


def decision(cuts: tuple[int, int], variant: str = "fp32", exit: int = 2, codec: str = "identity") -> Decision:
    return Decision(model="digits-cnn", variant=variant, cuts=cuts, exit=exit, codec=codec)


def answer_of(session: Session, image: np.ndarray, given: Decision | None, *, tenant: str = "", stream: str = "") -> Outcome:
    outcome = session.infer("digits-cnn", image, 5.0, given, tenant=tenant, stream=stream)
    assert outcome.status == "ok", outcome.message
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
    return outcome


def work(edge: Session, request_id: int, given: Decision, stage: int, *tensors: np.ndarray, tenant: str = "") -> Message:
    edge.send(Work(request_id=request_id, decision=given, stage=stage, budget_s=5.0, tenant=tenant), *tensors)
    received = [edge.receive(5.0), edge.receive(5.0)]
    assert received[0] is not None
    assert isinstance(received[0][0], Ack)
    assert received[1] is not None
    return received[1][0]


@pytest.mark.parametrize("cuts", [(7, 7), (0, 7), (2, 5), (0, 0)])
def test_the_same_picture_twice_is_a_hit_on_the_device(session: Session, image: np.ndarray, cuts: tuple[int, int]) -> None:
    """Wherever the first was computed, the second is answered by the device with the same answer, and nothing is sent."""
    first, second = (answer_of(session, image, decision(cuts)) for _ in range(2))
    assert (first.reused, second.reused, second.reused_at) == ("no", "cache-exact", "device")
    assert (second.prediction, second.confidence, second.exit) == (first.prediction, first.confidence, first.exit)
    assert second.link_bytes == second.down_bytes == (0, 0)
    assert sum(second.breakdown.compute_s) == sum(second.breakdown.transfer_s) == 0
    assert second.breakdown.reuse_s[0] > 0
    assert first.breakdown.reuse_s[0] > 0


@pytest.mark.parametrize("cuts", [(3, 7), (2, 5), (0, 7)])
@pytest.mark.parametrize("codec", ["identity", "int8+zstd"])
def test_the_same_picture_from_another_device_is_a_hit_at_the_edge(
    session: Session, edge: Session, image: np.ndarray, digits_model: Path, cuts: tuple[int, int], codec: str
) -> None:
    """The first is computed for the device; the same tensors, sent by somebody else, are answered by the edge's cache."""
    given = decision(cuts, codec=codec)
    first = answer_of(session, image, given)
    tensors = Engine(digits_model).run("fp32", 0, cuts[0], None, [image]) if cuts[0] else [image]
    frames = seal(Work(request_id=7, decision=given, stage=cuts[0], budget_s=5.0), pack(tensors, codec))
    assert edge.dealer.send(frames)
    answers = [edge.receive(5.0), edge.receive(5.0)]
    assert answers[1] is not None
    result, (logits,) = answers[1]
    assert isinstance(result, Result)
    assert (result.reused, result.reused_at, result.spans[0].sent_bytes) == ("cache-exact", "edge", 0)
    assert (int(logits.argmax()), result.exit) == (first.prediction, first.exit)


def test_the_edges_answer_reaches_the_client_as_one(session: Session, edge: Session, image: np.ndarray) -> None:
    """What somebody else had the edge compute serves the device's request, which says so."""
    assert isinstance(work(edge, 1, decision((0, 7)), 0, image), Result)
    outcome = answer_of(session, image, decision((0, 7)))
    assert (outcome.reused, outcome.reused_at) == ("cache-exact", "edge")
    assert outcome.breakdown.compute_s == (0.0, 0.0, 0.0)
    assert outcome.breakdown.reuse_s[1] > 0
    assert outcome.link_bytes[0] > 0
    assert outcome.link_bytes[1] == 0


def test_tenants_variants_and_exits_do_not_share(session: Session, image: np.ndarray, digits_model: Path) -> None:
    """Each is computed once for itself, and is a hit afterwards."""
    end = Engine(digits_model).manifest.exit_ends[0]
    asked = [(decision((7, 7)), ""), (decision((7, 7), "int8"), ""), (decision((end, end), exit=0), ""), (decision((7, 7)), "someone")]
    for expected in ("no", "cache-exact"):
        assert [answer_of(session, image, given, tenant=tenant).reused for given, tenant in asked] == [expected] * 4


def test_a_similar_picture_is_a_hit_within_the_bound_only(session: Session, image: np.ndarray, digits_model: Path) -> None:
    """One grey level on one pixel is near, another digit is far; what is served is the first one's answer."""
    near = image.copy()
    near[..., 10, 10] ^= 1
    sketcher = Sketcher([Engine(digits_model).manifest.input])
    bits = [int.from_bytes(fingerprint([picture], sketcher).sketch or b"") for picture in (image, near)]
    assert (bits[0] ^ bits[1]).bit_count() <= MAX_DISTANCE
    first = answer_of(session, image, decision((7, 7)))
    second = answer_of(session, near, decision((7, 7)))
    assert (second.reused, second.reused_at) == ("cache-similar", "device")
    assert (second.prediction, second.confidence) == (first.prediction, first.confidence)
    assert answer_of(session, near[..., ::-1, :].copy(), decision((7, 7))).reused == "no"


def test_a_stream_skips_unchanged_frames(session: Session, images: list[np.ndarray]) -> None:
    """The first frame is processed, equal ones answer as it did without a decision, and a new scene is processed again."""
    scenes = [images[next(_images_used)] for _ in range(2)]
    outcomes = [answer_of(session, scenes[index], None, stream="door") for index in (0, 0, 0, 1, 1)]
    assert [outcome.reused for outcome in outcomes] == ["no", "filter-unchanged", "filter-unchanged", "no", "filter-unchanged"]
    for skipped, processed in ((outcomes[2], outcomes[0]), (outcomes[4], outcomes[3])):
        assert (skipped.prediction, skipped.confidence, skipped.exit) == (processed.prediction, processed.confidence, processed.exit)
        assert (skipped.reused_at, skipped.decision, skipped.link_bytes) == ("device", None, (0, 0))
    assert session.status().counters["filter_unchanged"] == 3


def test_an_episode_clears_every_node(session: Session, edge: Session, images: list[np.ndarray]) -> None:
    """After StartEpisode device, edge and streams begin with nothing."""
    one, two, frame = (images[next(_images_used)] for _ in range(3))
    work(edge, 1, decision((0, 7)), 0, two)
    answer_of(session, one, decision((7, 7)))
    answer_of(session, frame, decision((7, 7)), stream="garden")
    session.send(StartEpisode(seed=1, starts_in_s=0.0))
    received = session.receive(5.0)
    assert received is not None
    assert isinstance(received[0], EpisodeStarted)
    assert answer_of(session, one, decision((7, 7))).reused == "no"
    assert answer_of(session, frame, decision((7, 7)), stream="garden").reused == "no"
    result = work(edge, 2, decision((0, 7)), 0, two)
    assert isinstance(result, Result)
    assert result.reused == "no"


def test_bad_input_and_failing_requests_are_never_cached(session: Session, edge: Session, image: np.ndarray, digits_model: Path) -> None:
    """NaN features fail each time they come, a request without time left too, and neither leaves an answer behind."""
    (spec,) = Engine(digits_model).manifest.variants["fp32"].cuts[3]
    stored = [node.status().counters["cache_stored"] for node in (session, edge)]
    for request_id in (1, 2):
        failure = work(edge, request_id, decision((3, 7)), 3, np.full(spec.shape, np.nan, dtype=np.float32))
        assert isinstance(failure, Failure)
        assert failure.status == "bad_input"
        assert session.infer("digits-cnn", image, 0.0, decision((0, 7))).status == "deadline"
        assert session.infer("digits-cnn", image[:, :, :32], 5.0, decision((0, 7))).status == "bad_input"
    assert [node.status().counters["cache_stored"] for node in (session, edge)] == stored


@pytest.mark.slow
def test_lifetime_and_budget_hold(digits_model: Path, images: list[np.ndarray], context: Context) -> None:
    """An edge that keeps an answer for a nanosecond, and a device with room for two: the rest is computed again."""
    topology = Topology(
        device=TierConfig(cache=CacheConfig(max_bytes=6000)), edge=TierConfig(cache=CacheConfig(ttl_s=1e-9)), telemetry_period_s=0.05
    )
    with launch_nodes(topology, digits_model) as running, Session(context, running.device_address) as device:
        wait_for_all_tiers(device)
        for image in images[:4]:
            answer_of(device, image, decision((7, 7)))
        assert [answer_of(device, image, decision((7, 7))).reused for image in (images[3], images[0])] == ["cache-exact", "no"]
        assert device.status().counters["cache_evicted_budget"] >= 2
        with Session(context, running.edge_address) as edge:
            results = [work(edge, request_id, decision((0, 7)), 0, images[5]) for request_id in (1, 2)]
            assert [result.reused for result in results if isinstance(result, Result)] == ["no", "no"]
            assert edge.status().counters["cache_evicted_expired"] >= 1


@pytest.mark.slow
def test_an_emulated_tier_takes_its_time_to_look(digits_model: Path, images: list[np.ndarray], context: Context) -> None:
    """Looking is computing: on a device that is slower by emulation it goes through the thread that paces it."""
    topology = Topology(device=TierConfig(slowdown=3.0, cache=CacheConfig()), telemetry_period_s=0.05)
    with launch_nodes(topology, digits_model) as running, Session(context, running.device_address) as device:
        outcomes = [answer_of(device, images[0], decision((7, 7))) for _ in range(2)]
        assert [outcome.reused for outcome in outcomes] == ["no", "cache-exact"]
        assert min(outcome.breakdown.reuse_s[0] for outcome in outcomes) > 0


@pytest.mark.slow
def test_reuse_is_off_by_default(digits_model: Path, images: list[np.ndarray], context: Context) -> None:
    """Without a word in the topology the same picture is computed twice, and no counter speaks of a cache."""
    assert msgspec.structs.asdict(Topology().device)["cache"] is None
    with launch_nodes(Topology(telemetry_period_s=0.05), digits_model) as running, Session(context, running.device_address) as device:
        outcomes = [answer_of(device, images[0], decision((7, 7)), stream="door") for _ in range(2)]
        assert [outcome.reused for outcome in outcomes] == ["no", "no"]
        assert {outcome.breakdown.reuse_s for outcome in outcomes} == {(0.0, 0.0, 0.0)}
        assert not [name for name in device.status().counters if name.startswith(("cache", "filter"))]
