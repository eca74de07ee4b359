"""The zoo's networks, small: each is exported once, and every cut and exit of it splits transparently."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from runtime.errors import InvalidModel
from runtime.models.alike import stage_alike
from runtime.models.batch_axis import has_batch_axis, with_batch_axis
from runtime.models.cutting import Candidate, find_cuts
from runtime.models.export import export_graph
from runtime.models.networks.alexnet import alexnet
from runtime.models.networks.blocks import scaled
from runtime.models.networks.generator import generator
from runtime.models.networks.lstm import lstm
from runtime.models.networks.mobilenet import mobilenet
from runtime.models.networks.resnet import resnet
from runtime.models.staging import cuts_after, stage, stage_at
from tests.runtime.models.graphs import assert_splits_transparently, run

pytestmark = pytest.mark.slow


class Exported(NamedTuple):
    """A network, an input, what torch makes of it, and its graph."""

    network: nn.Module
    example: torch.Tensor
    expected: list[np.ndarray]
    model: onnx.ModelProto
    cuts: tuple[Candidate, ...]


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "alexnet": (lambda: alexnet(channels=1, size=16, width=0.25), (1, 1, 16, 16)),
    "generator": (lambda: generator(channels=1, size=16, latent=8, width=0.25), (1, 8)),
    "lstm": (lambda: lstm(channels=1, size=8, width=0.125, chunks=3), (1, 1, 8, 8)),
    "mobilenet": (lambda: mobilenet(channels=3, width=0.25, groups=3), (1, 3, 16, 16)),
    "resnet": (lambda: resnet(channels=3, blocks=1, width=0.5), (1, 3, 16, 16)),
}


def export(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Exported:
    """A network with random weights and random normalisation statistics, exported."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = make().train()
        network(torch.randn(8, *shape[1:]))  # normalisations learn their statistics: folding them must matter
        example = torch.randn(shape)
        results = network.eval()(example)
    expected = [result.numpy() for result in (results if isinstance(results, list) else [results])]
    model = export_graph(network, example)
    return Exported(network, example, expected, model, find_cuts(model.graph))


@pytest.fixture(scope="module")
def exports() -> Callable[[str], Exported]:
    """Each network by name, exported when first asked for."""
    return cache(lambda name: export(*SMALL[name]))


@pytest.fixture(params=sorted(SMALL))
def exported(request: pytest.FixtureRequest, exports: Callable[[str], Exported]) -> Exported:
    """Each network in turn."""
    return exports(request.param)


@pytest.fixture
def small_resnet(exports: Callable[[str], Exported]) -> Exported:
    """One of them, for what concerns any."""
    return exports("resnet")


def test_every_cut_and_exit_splits_transparently(exported: Exported) -> None:
    """Wherever the network can be cut, tail(head(x)) on ONNX Runtime is model(x) of torch, to 1e-5."""
    graph = stage_at(exported.model, exported.cuts)
    assert len(graph.exit_outputs) == len(exported.expected)
    assert_splits_transparently(graph, [exported.example.numpy()], exported.expected)


def test_chosen_stages_split_transparently(exported: Exported) -> None:
    """The same of the stages that are chosen automatically."""
    graph = stage(exported.model, max_stages=5)
    assert 2 <= graph.num_stages <= 5
    assert_splits_transparently(graph, [exported.example.numpy()], exported.expected)


def test_normalisations_are_folded(exported: Exported) -> None:
    """No batch normalisation is left in the graph: what would be cut off from its convolution is inside it."""
    assert "BatchNormalization" not in {node.op_type for node in exported.model.graph.node}


def test_lstm_cuts_carry_states_and_what_is_left(exports: Callable[[str], Exported]) -> None:
    """Between two chunks of time steps a cut holds h and c of both layers, and the rows not yet read."""
    exported = exports("lstm")
    hidden, rows = (1, 1, 8), 8
    middle = [sorted(spec.shape for spec in cut.specs) for cut in exported.cuts]
    assert sorted([hidden] * 4 + [(1, rows - 2, rows)]) in middle


def test_exits_are_at_rising_depth(small_resnet: Exported) -> None:
    """A group of blocks, an exit: the exits' cuts are single tensors of the groups' shapes."""
    leaving = [cut for cut in small_resnet.cuts if cut.exits]
    assert [cut.exits for cut in leaving] == [(0,), (1,), (2,)]
    assert [cut.specs[0].shape for cut in leaving] == [(1, 8, 16, 16), (1, 16, 8, 8), (1, 32)]


def test_cuts_behind_named_submodules(small_resnet: Exported) -> None:
    """Cuts can be named by the submodules they are behind; a name that does not exist is answered with those that do."""
    chosen = cuts_after(small_resnet.model.graph, small_resnet.cuts, ["stem", "groups.0", "groups.1", "groups.2"])
    assert [cut.specs[0].shape for cut in chosen] == [(1, 3, 16, 16), (1, 8, 16, 16), (1, 8, 16, 16), (1, 16, 8, 8), (1, 32, 4, 4)]
    graph = stage(small_resnet.model, after=["groups.0", "groups.1", "groups.2"])
    assert graph.exit_ends == (1, 2, 3)
    assert_splits_transparently(graph, [small_resnet.example.numpy()], small_resnet.expected)
    with pytest.raises(InvalidModel, match=r"'group.1'; there is .*groups\.1"):
        stage(small_resnet.model, after=["group.1"])
    with pytest.raises(InvalidModel, match="behind the cut named before it"):
        stage(small_resnet.model, after=["groups.1", "groups.0"])
    with pytest.raises(InvalidModel, match=r"no cut where exits \[0\] leave"):
        stage(small_resnet.model, after=["groups.1", "groups.2"])


class Shrunk(nn.Module):
    """A network behind a resize."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        smaller = nn.functional.interpolate(image, scale_factor=0.5, mode="bilinear", align_corners=False)
        return self.network(smaller)


def test_narrower_variant_is_staged_alike(small_resnet: Exported) -> None:
    """A slimmer network, behind a resize as well, gets the reference's cuts and exits and splits transparently."""
    reference = stage(small_resnet.model)
    for make in (lambda: resnet(channels=3, blocks=1, width=0.25), lambda: Shrunk(resnet(channels=3, blocks=1, width=0.5))):
        other = export(make, (1, 3, 16, 16))
        graph = stage_alike(other.model, reference)
        assert graph.exit_ends == reference.exit_ends
        assert [len(cut) for cut in graph.cuts] == [len(cut) for cut in reference.cuts]
        assert_splits_transparently(graph, [other.example.numpy()], other.expected)


def test_scaled_widths() -> None:
    """Widths are multiples of 8, at least 8, and never lose more than a tenth."""
    assert [scaled(32, width) for width in (1.0, 0.5, 0.25, 0.1, 0.75)] == [32, 16, 8, 8, 24]
    assert scaled(20, 1.0) == 24


def test_generator_refuses_sizes_it_cannot_reach() -> None:
    """4x4 maps doubled never make 20."""
    with pytest.raises(InvalidModel, match="got 20"):
        generator(size=20)


def test_whole_graph_is_the_network(exported: Exported) -> None:
    """What is exported computes what torch computes, all exits at once."""
    for got, expected in zip(run(exported.model, [exported.example.numpy()]), exported.expected, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_requests_can_be_computed_together(exported: Exported, request: pytest.FixtureRequest) -> None:
    """The batch axis of every network opens, but for one whose states begin with another axis."""
    opened = with_batch_axis(exported.model, np.random.default_rng(0))
    assert has_batch_axis(opened) == ("lstm" not in request.node.name)
