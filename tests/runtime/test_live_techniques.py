"""Techniques on the path of live requests: codecs on the links, exits taken by confidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.codecs import CODECS
from runtime.codecs.parcel import pack, unpack
from runtime.inference.confidence import normalised_entropy
from runtime.inference.engine import Engine
from runtime.launch import RunningNodes, launch_nodes
from runtime.messages import Decision, Outcome
from runtime.models.examples import load_examples
from runtime.models.manifest import MANIFEST_NAME, load_manifest
from runtime.session import Session
from runtime.topology import Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers

TOPOLOGY = Topology(telemetry_period_s=0.05)
NUM_IMAGES = 12
LOSSLESS = [name for name in CODECS if name.startswith("identity")]


@pytest.fixture(scope="module")
def model_dir(digits_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits-cnn with thresholds that some images pass and some do not."""
    folder = tmp_path_factory.mktemp("confident") / "model"
    shutil.copytree(digits_model, folder)
    engine, images = Engine(folder), load_examples(folder, "test").images[:NUM_IMAGES]
    variants = {}
    for name, info in engine.manifest.variants.items():
        entropies = [entropy_of(engine, name, 0, image) for image in images]
        thresholds = (float(np.median(entropies)), float(np.median(entropies)))
        variants[name] = msgspec.structs.replace(info, exit_thresholds=thresholds, exit_shares=(0.5, 0.25, 0.25))
    manifest = msgspec.structs.replace(engine.manifest, variants=variants)
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture(scope="module")
def nodes(model_dir: Path) -> Iterator[RunningNodes]:
    with launch_nodes(TOPOLOGY, model_dir) as running:
        yield running


@pytest.fixture(scope="module")
def session(nodes: RunningNodes) -> Iterator[Session]:
    with Context() as context, Session(context, nodes.device_address) as session:
        wait_for_all_tiers(session)
        yield session


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Engine:
    return Engine(model_dir)


@pytest.fixture(scope="module")
def images(model_dir: Path) -> np.ndarray:
    return load_examples(model_dir, "test").images[:NUM_IMAGES]


def entropy_of(engine: Engine, variant: str, exit: int, image: np.ndarray) -> float:
    (logits,) = engine.run(variant, 0, engine.manifest.exit_ends[exit], exit, [image])
    return float(normalised_entropy(logits[0]))


def decision(cuts: tuple[int, int], variant: str = "fp32", exit: int = 2, codec: str = "identity", early_exit: bool = False) -> Decision:
    return Decision(model="digits-cnn", variant=variant, cuts=cuts, exit=exit, codec=codec, early_exit=early_exit)


def answer_of(session: Session, image: np.ndarray, given: Decision) -> Outcome:
    outcome = session.infer("digits-cnn", image, 5.0, given)
    assert outcome.status == "ok", outcome.message
    assert outcome.breakdown.total_s() == pytest.approx(outcome.latency_s, abs=1e-9)
    return outcome


# ---------------------------------------------------------------- codecs


def by_hand(engine: Engine, given: Decision, image: np.ndarray) -> np.ndarray:
    """The logits when every cut that is crossed goes through the codec, in this process."""
    p, q = given.cuts
    end = engine.manifest.end(given)
    tensors, bounds = [image], (0, p, q, end)
    for index in range(3):
        start, stop = bounds[index], bounds[index + 1]
        if start < stop:
            tensors = engine.run(given.variant, start, stop, given.exit if stop == end else None, tensors)
        if stop == end:
            return tensors[0]
        tensors = unpack(pack(tensors, given.codec)).tensors
    raise AssertionError("unreachable")


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize(("variant", "cuts"), [("fp32", (2, 5)), ("fp32", (3, 3)), ("int8", (2, 5)), ("fp32", (0, 4))])
def test_a_codec_on_the_links_is_the_codec_by_hand(
    session: Session, engine: Engine, images: np.ndarray, codec: str, variant: str, cuts: tuple[int, int]
) -> None:
    """Encoded, sent, relayed and decoded by three processes, the class and its probability are those computed in one."""
    given = decision(cuts, variant, codec=codec)
    logits = by_hand(engine, given, images[0])[0]
    outcome = answer_of(session, images[0], given)
    assert outcome.prediction == int(logits.argmax())
    shares = np.exp(logits - logits.max())
    assert outcome.confidence == pytest.approx(float(shares.max() / shares.sum()), rel=1e-5)


@pytest.mark.parametrize("codec", [name for name in sorted(CODECS) if name != "identity"])
def test_a_codec_saves_bytes_where_it_applies(session: Session, images: np.ndarray, codec: str) -> None:
    """Float features take fewer bytes than raw, and the time for it is a part of the latency."""
    raw = answer_of(session, images[0], decision((2, 5)))
    coded = answer_of(session, images[0], decision((2, 5), codec=codec))
    assert coded.link_bytes[0] < raw.link_bytes[0]
    assert coded.link_bytes[1] < raw.link_bytes[1]
    assert min(coded.breakdown.codec_s) > 0


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_lossless_codec_loses_nothing(session: Session, engine: Engine, images: np.ndarray, codec: str) -> None:
    """Answers are bit for bit those without a codec."""
    for image in images[:4]:
        given = decision((0, 3), codec=codec)
        assert answer_of(session, image, given).confidence == answer_of(session, image, decision((0, 3))).confidence


def test_an_unknown_codec_is_one_clear_error(session: Session, images: np.ndarray) -> None:
    """The message names those there are, and the next request is served."""
    outcome = session.infer("digits-cnn", images[0], 2.0, decision((2, 5), codec="jpeg"))
    assert outcome.status == "bad_input"
    assert "codec 'jpeg' does not exist; there is" in outcome.message
    answer_of(session, images[0], decision((2, 5)))


# ---------------------------------------------------------------- confidence exits


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize(("cuts", "limit"), [((7, 7), 2), ((0, 7), 2), ((0, 0), 2), ((3, 3), 2), ((2, 5), 2), ((4, 6), 2), ((1, 4), 1)])
def test_requests_leave_at_the_first_confident_exit(
    session: Session, engine: Engine, images: np.ndarray, variant: str, cuts: tuple[int, int], limit: int
) -> None:
    """Wherever the cuts are, the exit is the first under its threshold, up to the decision's, and the answer that exit's."""
    manifest = engine.manifest
    thresholds = manifest.variants[variant].exit_thresholds
    taken = set()
    for image in images:
        sure = [entropy_of(engine, variant, exit, image) < thresholds[exit] for exit in range(limit)]
        expected = sure.index(True) if True in sure else limit
        outcome = answer_of(session, image, decision(cuts, variant, limit, early_exit=True))
        (logits,) = engine.run(variant, 0, manifest.exit_ends[expected], expected, [image])
        assert (outcome.exit, outcome.prediction) == (expected, int(logits.argmax()))
        assert (outcome.link_bytes[0] > 0) == (manifest.exit_ends[expected] > cuts[0])
        assert (outcome.link_bytes[1] > 0) == (manifest.exit_ends[expected] > cuts[1])
        taken.add(outcome.exit)
    assert len(taken) > 1  # the thresholds are such that it shows


def test_without_early_exit_the_decisions_exit_answers(session: Session, images: np.ndarray) -> None:
    """However confident earlier exits would be."""
    for image in images:
        assert answer_of(session, image, decision((2, 5))).exit == 2


def test_a_model_without_thresholds_refuses_to_leave_early(digits_model: Path) -> None:
    """Confidence that was never calibrated means nothing."""
    manifest = load_manifest(digits_model)
    bare = {name: msgspec.structs.replace(info, exit_thresholds=()) for name, info in manifest.variants.items()}
    with pytest.raises(Exception, match="no calibrated confidence"):
        msgspec.structs.replace(manifest, variants=bare).check(decision((2, 5), early_exit=True))
