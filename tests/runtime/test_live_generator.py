"""A network that answers with a picture, on real nodes: the client gets the picture, wherever the network was cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.inference.cache import CacheConfig
from runtime.inference.engine import Engine
from runtime.launch import launch_nodes
from runtime.messages import Decision, Outcome, Submit, TensorSpec
from runtime.models.build import build_spec
from runtime.models.examples import load_examples
from runtime.models.manifest import load_manifest
from runtime.models.zoo import ZOO
from runtime.session import Session
from runtime.topology import TierConfig, Topology
from runtime.transport import Context
from tests.runtime.live_helpers import wait_for_all_tiers

pytestmark = pytest.mark.slow  # a network is exported

LATENT = np.random.default_rng(5).standard_normal((1, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a small generator, 8 numbers in, a picture of 16x16 out."""
    arguments = {"channels": 1, "size": 16, "latent": 8, "width": 0.25}
    taken = TensorSpec(shape=(1, 8), dtype="float32")
    spec = msgspec.structs.replace(ZOO["generator"], name="painter", arguments=arguments, input=taken, max_stages=3)
    return build_spec(spec, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def session(generator: Path) -> Iterator[Session]:
    topology = Topology(telemetry_period_s=0.05, edge=TierConfig(cache=CacheConfig()))
    with launch_nodes(topology, generator) as nodes, Context() as context, Session(context, nodes.device_address) as session:
        wait_for_all_tiers(session)
        yield session


@pytest.fixture(scope="module")
def painted(generator: Path) -> np.ndarray:
    """What the whole network makes of the latent, in this process."""
    engine = Engine(generator)
    (picture,) = engine.run("fp32", 0, engine.manifest.num_stages, 0, [LATENT])
    assert picture.shape == (1, 1, 16, 16)
    return picture


@pytest.fixture(scope="module")
def end(generator: Path) -> int:
    """Number of stages."""
    return load_manifest(generator).num_stages


def whole(cuts: tuple[int, int]) -> Decision:
    return Decision(model="painter", variant="fp32", cuts=cuts, exit=0)


def test_it_is_built_without_data(generator: Path, painted: np.ndarray) -> None:
    """It is not trained, nothing is classified, and its stages run and are timed all the same."""
    manifest = load_manifest(generator)
    info = manifest.variants["fp32"]
    assert (manifest.classes, info.accuracy, manifest.exit_ends) == ((), {}, (manifest.num_stages,))
    assert info.outputs == (TensorSpec(shape=(1, 1, 16, 16), dtype="float32"),)
    assert min(info.stage_reference_s) > 0
    assert set(load_examples(generator, "test").labels.tolist()) == {-1}
    assert np.abs(painted).max() <= 1


def test_the_picture_comes_back_whole(session: Session, painted: np.ndarray, end: int) -> None:
    """Split anywhere over the three tiers, the client gets the picture of the whole network, and no class."""
    assert end > 1
    for cuts in itertools.combinations_with_replacement(range(end + 1), 2):
        outcome, picture = session.infer_output("painter", LATENT, 5.0, whole(cuts), fresh=True)
        assert (outcome.status, outcome.prediction, outcome.decision) == ("ok", None, whole(cuts)), outcome.message
        assert picture is not None
        assert picture.dtype == painted.dtype
        np.testing.assert_allclose(picture, painted, rtol=0, atol=1e-5)


def test_a_remembered_picture_comes_back_too(session: Session, painted: np.ndarray, end: int) -> None:
    """The edge's cache answers with the picture, not only with what it means."""
    for _ in range(2):
        outcome, picture = session.infer_output("painter", LATENT, 5.0, whole((0, end)))
    assert outcome.reused == "cache-exact"
    np.testing.assert_allclose(picture, painted, rtol=0, atol=1e-5)


def test_only_whoever_asks_is_sent_the_picture(session: Session, end: int) -> None:
    """A plain request is answered without tensors; one that failed has no picture."""
    outcome, picture = session.infer_output("painter", LATENT[:, :4], 5.0, whole((end, end)))
    assert (outcome.status, picture) == ("bad_input", None)
    session.send(Submit(request_id=7, model="painter", deadline_s=5.0, decision=whole((end, end))), LATENT)
    received = session.receive(5.0)
    assert received is not None
    assert isinstance(received[0], Outcome)
    assert (received[0].status, received[1]) == ("ok", [])
