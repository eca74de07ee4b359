"""Physical forms of a graph with inverted residuals: they answer alike, and their cuts carry fewer bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.models.staged import StagedGraph
from runtime.models.variants import VARIANTS

SHAPE = (1, 3, 16, 16)
CUTS = [["image"], ["a"], ["a", "b"], ["a", "c"], ["a", "d"], ["e"], ["f"]]
IMAGES = np.random.default_rng(0).integers(0, 256, (48, *SHAPE)).astype(np.uint8)
BYTES = {"fp32": 4, "half": 2, "int8": 1}


class Builder:
    """Nodes and weights of a graph in the making."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [numpy_helper.from_array(np.float32(value), name) for name, value in (("low", 0), ("high", 6), ("gain", 1 / 255))]

    def conv(self, name: str, source: str, result: str, shape: tuple[int, int, int], groups: int = 1, stride: int = 1) -> None:
        """A convolution; filters of a depthwise one differ in scale, as they do after normalisations are folded in."""
        out, inside, side = shape
        weight = self.rng.normal(size=(out, inside // groups, side, side)) * (2 / (inside // groups * side**2)) ** 0.5
        if groups > 1:
            weight *= np.exp(self.rng.normal(size=(out, 1, 1, 1)))
        self.weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        attributes = {"kernel_shape": [side, side], "pads": [side // 2] * 4, "group": groups, "strides": [stride, stride]}
        self.add("Conv", [source, f"{name}.weight"], result, **attributes)

    def add(self, op: str, inputs: list[str], result: str, **attributes: object) -> None:
        """Any other node."""
        self.nodes.append(helper.make_node(op, inputs, [result], name=f"make_{result}", **attributes))


def inverted_residual() -> onnx.ModelProto:
    """image - stem - a - expand - b - depthwise - c - project - d; a + d = e - conv - f - pool - logits, with ReLU6 at a, b, c."""
    build = Builder()
    build.add("Cast", ["image"], "float", to=TensorProto.FLOAT)
    build.add("Mul", ["float", "gain"], "x")
    build.conv("stem", "x", "a0", (16, 3, 3))
    build.add("Clip", ["a0", "low", "high"], "a")
    build.conv("expand", "a", "b0", (32, 16, 1))
    build.add("Clip", ["b0", "low", "high"], "b")
    build.conv("depthwise", "b", "c0", (32, 32, 3), groups=32)
    build.add("Clip", ["c0", "low", "high"], "c")
    build.conv("project", "c", "d", (16, 32, 1))
    build.add("Add", ["a", "d"], "e")
    build.conv("down", "e", "f0", (24, 16, 3), stride=2)
    build.add("Relu", ["f0"], "f")
    build.add("GlobalAveragePool", ["f"], "pooled")
    build.add("Flatten", ["pooled"], "logits")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, SHAPE)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 24))
    graph = helper.make_graph(build.nodes, "inverted", [image], [logits], initializer=build.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def forms() -> dict[str, StagedGraph]:
    """Each variant of the network."""
    graph = StagedGraph(inverted_residual(), CUTS, ["logits"], [6])
    return {name: make(graph, IMAGES) for name, make in VARIANTS.items()}


def session(model: onnx.ModelProto, optimised: Path | None = None) -> ort.InferenceSession:
    """A model loaded; what the runtime makes of it is written where asked for."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(graph: StagedGraph) -> np.ndarray:
    """Logits of every image, [N, 24]."""
    run = session(graph.extract(0, 6, 0)).run
    return np.concatenate([run(None, {"image": image})[0] for image in IMAGES])


def test_first_variant_is_the_graph_itself(forms: dict[str, StagedGraph]) -> None:
    """The family begins with fp32."""
    assert list(VARIANTS) == ["fp32", "half", "int8"]
    assert forms["fp32"].model.graph.node == inverted_residual().graph.node


@pytest.mark.parametrize(("variant", "limit"), [("half", 0.01), ("int8", 0.1)])
def test_answers_stay_near_those_of_fp32(forms: dict[str, StagedGraph], variant: str, limit: float) -> None:
    """Logits are float32 and differ by a small share of their spread, with skips and depthwise filters of many scales."""
    expected, got = answers(forms["fp32"]), answers(forms[variant])
    assert got.dtype == np.float32
    assert np.abs(got - expected).mean() < limit * expected.std()


@pytest.mark.parametrize("variant", VARIANTS)
def test_cuts_carry_the_variants_bytes(forms: dict[str, StagedGraph], variant: str) -> None:
    """Shapes are the same in all; behind the raw image a value takes 4, 2 or 1 bytes."""
    graph = forms[variant]
    assert graph.specs(0) == forms["fp32"].specs(0)
    for cut in range(1, 7):
        specs = graph.specs(cut)
        assert [spec.shape for spec in specs] == [spec.shape for spec in forms["fp32"].specs(cut)]
        assert {np.dtype(spec.dtype).itemsize for spec in specs} == {BYTES[variant]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_splitting_stays_transparent(forms: dict[str, StagedGraph], variant: str) -> None:
    """Two parts in a row give what the whole gives, wherever it is cut."""
    graph = forms[variant]
    (whole,) = session(graph.extract(0, 6, 0)).run(None, {"image": IMAGES[0]})
    for cut in range(1, 6):
        first, second = session(graph.extract(0, cut, None)), session(graph.extract(cut, 6, 0))
        tensors = first.run(None, {"image": IMAGES[0]})
        (parts,) = second.run(None, dict(zip((value.name for value in second.get_inputs()), tensors, strict=True)))
        tolerance = 1e-2 if variant == "half" else 1e-5
        np.testing.assert_allclose(parts, whole, rtol=tolerance, atol=tolerance * np.abs(whole).max(), err_msg=f"cut {cut}")


def test_int8_runs_in_integers(forms: dict[str, StagedGraph], tmp_path: Path) -> None:
    """Every convolution but the first, depthwise included, and the sum of the skip run on integer kernels."""
    session(forms["int8"].model, tmp_path / "optimised.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kinds["QLinearConv"] == 4
    assert kinds["QLinearAdd"] == 1
    assert kinds["Clip"] == 0
