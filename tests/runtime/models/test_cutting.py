"""Finding cuts and choosing among them: hand-counted graphs, then properties of any candidates."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from runtime.errors import InvalidModel
from runtime.messages import TensorSpec
from runtime.models.cutting import SAME_WORK_FRACTION, Candidate, choose_cuts, find_cuts
from runtime.models.staging import stage, stage_at
from tests.runtime.models.graphs import SHAPE, GraphWriter, assert_splits_transparently, chain_of_blocks, run

SPEC = TensorSpec(shape=SHAPE, dtype="float32")
TENSOR_BYTES = 4 * 4 * 6 * 6
CONV_FLOPS = 2 * (4 * 6 * 6) * (4 * 3 * 3)
ELEMENTS = 4 * 6 * 6


def candidate(position: int, num_bytes: int, flops: int, exits: tuple[int, ...] = ()) -> Candidate:
    return Candidate(position=position, tensors=(f"t{position}",), specs=(SPEC,), num_bytes=num_bytes, flops=flops, exits=exits)


def test_cuts_of_a_block_are_counted_by_hand() -> None:
    """Inside a residual block two tensors are alive; bytes and work before each position are those on paper."""
    found = find_cuts(chain_of_blocks(1).graph)
    conv, relu1, conv2, add, relu2 = CONV_FLOPS, ELEMENTS, CONV_FLOPS, ELEMENTS, ELEMENTS
    assert [(cut.tensors, cut.num_bytes, cut.flops) for cut in found[:7]] == [
        (("x",), TENSOR_BYTES, 0),
        (("t0",), TENSOR_BYTES, conv),
        (("t0", "t1"), 2 * TENSOR_BYTES, 2 * conv),
        (("t0", "t2"), 2 * TENSOR_BYTES, 2 * conv + relu1),
        (("t0", "t3"), 2 * TENSOR_BYTES, 2 * conv + relu1 + conv2),
        (("t4",), TENSOR_BYTES, 2 * conv + relu1 + conv2 + add),
        (("t5",), TENSOR_BYTES, 2 * conv + relu1 + conv2 + add + relu2),
    ]
    assert found[-1].tensors == ("t7",)
    assert found[-1].exits == (0,)


def test_exits_leave_where_their_heads_begin() -> None:
    """Each early exit's branch is at the output of its block; heads are no part of the trunk."""
    found = find_cuts(chain_of_blocks(3, (1, 2)).graph)
    leaving = {exit: cut.position for cut in found for exit in cut.exits}
    assert leaving == {0: 6, 1: 11, 2: 18}
    assert [len(cut.tensors) for cut in found if cut.exits] == [1, 1, 1]


def test_a_head_that_reaches_far_back_keeps_its_tensors_alive() -> None:
    """A tensor that only an exit needs crosses every cut up to the exit, and none behind it."""
    writer = GraphWriter()
    early = writer.conv("x")
    late = writer.conv(writer.add("Relu", early))
    exit = writer.head(writer.add("Add", early, late))
    model = writer.model([exit, writer.head(writer.conv(late))])
    found = find_cuts(model.graph)
    assert [set(cut.tensors) for cut in found[1:5]] == [{"t0"}, {"t0", "t1"}, {"t0", "t2"}, {"t7"}]
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert_splits_transparently(stage_at(model, found), [image], run(model, [image]))


def test_work_on_constants_is_in_no_stage() -> None:
    """What depends on no input is like a weight: it moves no cut, and whoever needs it has it."""
    writer = GraphWriter()
    shape = writer.add("Constant", value=helper.make_tensor("shape", TensorProto.INT64, (4,), SHAPE))
    bias = writer.add("Relu", writer.add("ConstantOfShape", shape, value=helper.make_tensor("v", TensorProto.FLOAT, (1,), (0.5,))))
    model = writer.model([writer.head(writer.conv(writer.add("Add", writer.conv("x"), bias)))])
    found = find_cuts(model.graph)
    assert [cut.tensors for cut in found] == [("x",), ("t3",), ("t4",), ("t5",), ("t6",), ("t7",)]
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    graph = stage_at(model, found)
    assert_splits_transparently(graph, [image], run(model, [image]))
    assert [node.op_type for node in graph.extract(2, 3, None).graph.node] == ["Conv"]


def test_exits_at_one_depth_are_refused() -> None:
    """Two heads on the same tensor are not two depths, and the deepest must come last."""
    writer = GraphWriter()
    trunk = writer.block("x")
    model = writer.model([writer.head(trunk), writer.head(trunk), writer.head(writer.block(trunk))])
    with pytest.raises(InvalidModel, match="shallowest first"):
        find_cuts(model.graph)


def test_a_single_layer_is_refused() -> None:
    """Nothing can be cut off a network whose only layer is its head."""
    writer = GraphWriter()
    model = writer.model([writer.conv("x")])
    with pytest.raises(InvalidModel, match="nothing to cut"):
        find_cuts(model.graph)


def test_an_output_without_input_is_refused() -> None:
    """A network that ignores its input has nothing to cut."""
    writer = GraphWriter()
    model = writer.model([writer.add("Relu", writer.weight(2, 3))])
    with pytest.raises(InvalidModel, match="depends on no operation"):
        find_cuts(model.graph)


def test_a_dominated_cut_is_dropped() -> None:
    """Of neighbours with the same work before them the smaller stays, of equals the later."""
    found = [
        candidate(0, 100, 0),
        candidate(1, 400, 500),
        candidate(2, 200, 505),
        candidate(3, 200, 510),
        candidate(4, 50, 800),
        candidate(5, 10, 1000, (0,)),
    ]
    assert [cut.position for cut in choose_cuts(found)] == [0, 3, 4, 5]


def test_the_widest_gap_is_filled_first() -> None:
    """With room for one cut more, it goes to the middle half of the work, where it is cheapest."""
    found = [candidate(index, 100 - index, 100 * index) for index in range(10)] + [candidate(10, 1, 1000, (0,))]
    assert [cut.position for cut in choose_cuts(found, 2)] == [0, 7, 10]
    assert [cut.position for cut in choose_cuts(found, 3)] == [0, 5, 7, 10]


def test_what_must_be_there_is_there_or_refused() -> None:
    """Exits and required positions are kept even where dominated; too few stages for them is an error."""
    found = [candidate(0, 10, 0), candidate(1, 900, 300, (0,)), candidate(2, 1, 301), candidate(3, 800, 600), candidate(4, 1, 1000, (1,))]
    assert [cut.position for cut in choose_cuts(found, 3, required=(3,))] == [0, 1, 3, 4]
    with pytest.raises(InvalidModel, match="make 3 stages, allowed are 2"):
        choose_cuts(found, 2, required=(3,))


def test_a_hundred_blocks() -> None:
    """A deep network is cut into eight stages that share the work, at the single tensors between blocks."""
    found = find_cuts(chain_of_blocks(100, (25, 50)).graph)
    chosen = choose_cuts(found)
    assert len(found) == 504
    assert len(chosen) == 9
    assert all(cut.num_bytes <= TENSOR_BYTES for cut in chosen)
    shares = np.diff([cut.flops / found[-1].flops for cut in chosen])
    assert shares.min() > 0.05
    assert shares.max() < 0.26


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    """Candidates in order, with work that never falls and the last exit at the last."""
    steps = draw(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 1000), st.booleans()), min_size=2, max_size=40))
    found, flops, exits = [], 0, 0
    for position, (num_bytes, step, leaves) in enumerate(steps):
        last = position == len(steps) - 1
        leaving = (exits,) if (leaves and position and exits < 3) or last else ()
        exits += len(leaving)
        found.append(candidate(position, num_bytes, flops, leaving))
        flops += step
    return found


@given(candidate_lists(), st.integers(4, 10))
def test_choices_are_few_in_order_and_complete(found: list[Candidate], max_stages: int) -> None:
    """Never more stages than allowed; the input and every exit's cut are there; order is kept; nothing is invented."""
    chosen = choose_cuts(found, max_stages)
    assert 1 <= len(chosen) - 1 <= max_stages
    assert [cut for cut in found if cut in chosen] == list(chosen)
    assert chosen[0] == found[0]
    assert [cut for cut in found if cut.exits] == [cut for cut in chosen if cut.exits]


@given(candidate_lists())
def test_nothing_dominated_is_chosen(found: list[Candidate]) -> None:
    """With room for all, a free choice has no other chosen one beside it with fewer bytes and the same work."""
    chosen = choose_cuts(found, len(found))
    near = SAME_WORK_FRACTION * found[-1].flops
    for cut in chosen[1:]:
        others = [each for each in chosen if each != cut and each.num_bytes < cut.num_bytes and abs(each.flops - cut.flops) <= near]
        assert cut.exits or not others


@st.composite
def residual_networks(draw: st.DrawFn) -> onnx.ModelProto:
    """A random network: every layer adds to the one before it any earlier result, exits leave anywhere."""
    writer = GraphWriter(draw(st.integers(0, 1000)))
    made, outputs = [writer.conv("x")], []
    for _ in range(draw(st.integers(2, 7))):
        made.append(writer.conv(made[-1]) if draw(st.booleans()) else writer.add("Relu", made[-1]))
        if draw(st.booleans()):
            made.append(writer.add("Add", made[-1], draw(st.sampled_from(["x", *made]))))
        if draw(st.integers(0, 3)) == 0:
            outputs.append(writer.head(made[-1]))
            made.append(writer.conv(made[-1]))
    return writer.model([*outputs, writer.head(writer.conv(made[-1]))])


@pytest.mark.slow
@settings(max_examples=25)
@given(residual_networks(), st.integers(0, 100))
def test_any_residual_network_splits_transparently(model: onnx.ModelProto, seed: int) -> None:
    """At every place that is found, and at every exit, the two parts in a row are the whole."""
    image = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    graph = stage_at(model, find_cuts(model.graph))
    assert_splits_transparently(graph, [image], run(model, [image]))
    assert stage(model, max_stages=8).exit_ends[-1] <= 8
