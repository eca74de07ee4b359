"""Open the batch axis of a segment that was exported for a batch of one.

The first axis of each input is renamed from 1 to a symbol, and everything behind it follows by shape inference,
except where a constant repeats the batch of one: the target shapes of Reshape.  There 1 becomes 0, which copies the
axis of what is reshaped (Expand needs nothing: its 1 broadcasts).  That the result still computes each row as before
is then shown twice, by the symbol reaching every output and by running rows alone and together: a model that mixes
its batch, or counts on its being one, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from runtime.errors import InvalidConfig
from runtime.models.staged import check_well_formed

BATCH = "batch"
"""Name of the open axis."""
FATAL = 4
"""ONNX Runtime's highest severity of a log line."""


ANY_INTEGER, ANY_INDEX = (-128, 255), (0, 1)
"""Least and largest of random integers: of quantised values and pictures, and of indices into whatever table there is."""

Weights = Mapping[str, np.ndarray]
"""What a segment takes from outside (runtime/models/weights.py)."""

NO_WEIGHTS: Weights = MappingProxyType({})


def with_batch_axis(segment: onnx.ModelProto, rng: np.random.Generator, weights: Weights = NO_WEIGHTS) -> onnx.ModelProto:
    """The segment for any batch where that is possible and shown to be right, else the segment as it is."""
    try:
        opened = open_batch_axis(segment)
        check_batch_axis(segment, opened, rng, weights=weights)
    except InvalidConfig:
        return segment  # it runs rows one at a time, as ever; sessions tell by the type of their first extent
    return opened


def has_batch_axis(segment: onnx.ModelProto) -> bool:
    """Whether its batch axis is open."""
    return all(value.type.tensor_type.shape.dim[0].dim_param == BATCH for value in segment.graph.input)


def open_batch_axis(segment: onnx.ModelProto) -> onnx.ModelProto:
    """A segment of batch one -> the same for any batch: each input and output [1, ...] becomes [batch, ...].

    Raises InvalidConfig when an input or output has no leading axis of one, or when the batch does not reach every
    output (a constant inside the graph fixes it); the segment given is left as it is.
    """
    model = onnx.ModelProto()
    model.CopyFrom(segment)
    del model.graph.value_info[:]  # they hold the batch of one; the checks below infer them anew
    expected = [_open(value) for value in (*model.graph.input, *model.graph.output)][len(model.graph.input) :]
    _keep_first_axis(model)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")  # what is inferred must not lean on what is hoped for
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as exc:
        raise InvalidConfig(f"the batch axis cannot be opened: {exc}") from exc
    for value, found, shape in zip(model.graph.output, inferred.graph.output, expected, strict=True):
        if _shape(found) != shape:
            raise InvalidConfig(f"output {value.name!r} has shape {_shape(found)} for a batch, expected {shape}")
        value.CopyFrom(found)
    check_well_formed(model)
    return model


def check_batch_axis(
    single: onnx.ModelProto, batched: onnx.ModelProto, rng: np.random.Generator, num_rows: int = 3, weights: Weights = NO_WEIGHTS
) -> None:
    """Run random rows one by one and together.  Raises InvalidConfig where a row differs by more than rounding, or none runs.

    Float outputs may differ by 1e-4 of the largest value, quantised ones by one step: kernels for several rows add
    in another order.
    """
    session = _session(single, weights)
    rows, alone = _runnable(single, session, rng, num_rows)
    try:
        together = _run(_session(batched, weights), [np.concatenate(column) for column in zip(*rows, strict=True)])
    except Exception as exc:  # ONNX Runtime's own classes have no common base: whatever it raises, this batch does not run
        raise InvalidConfig(f"a batch of {num_rows} does not run: {exc}") from exc
    for value, found, *expected in zip(batched.graph.output, together, *alone, strict=True):
        wanted = np.concatenate(expected).astype(np.float64)
        tolerance = 1.0 if found.dtype.kind in "iu" else 1e-4 * max(1.0, float(np.abs(wanted).max(initial=0.0)))
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=0.0, atol=tolerance):
            raise InvalidConfig(f"output {value.name!r} of a batch of {num_rows} is not that of its rows: the model mixes its batch")


def _runnable(
    model: onnx.ModelProto, session: ort.InferenceSession, rng: np.random.Generator, num_rows: int
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """(random rows that the model takes, its results).  Integers may be indices: those of a small table run where any do not."""
    try:
        return _run_rows(model, session, rng, num_rows, ANY_INTEGER)
    except InvalidConfig:
        return _run_rows(model, session, rng, num_rows, ANY_INDEX)


def _run_rows(
    model: onnx.ModelProto, session: ort.InferenceSession, rng: np.random.Generator, num_rows: int, limits: tuple[int, int]
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    rows = [[_sample(value, rng, *limits) for value in model.graph.input] for _ in range(num_rows)]
    try:
        return rows, [_run(session, row) for row in rows]
    except Exception as exc:  # ONNX Runtime's own classes have no common base: whatever it raises, these rows do not run
        raise InvalidConfig(f"random rows do not run: {exc}") from exc


def _open(value: onnx.ValueInfoProto) -> list[int | str]:
    """Rename the first axis of a typed value and give its shape."""
    shape = _shape(value)
    if not shape or shape[0] != 1:
        raise InvalidConfig(f"tensor {value.name!r} of shape {shape} has no leading batch axis of one")
    value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return _shape(value)


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [extent.dim_param or extent.dim_value for extent in value.type.tensor_type.shape.dim]


def _keep_first_axis(model: onnx.ModelProto) -> None:
    """Rewrite the constant target shapes of Reshapes of computed tensors from [1, ...] to [0, ...].

    A shape that nobody reads any more goes: ONNX Runtime would complain of it whenever the segment is loaded.
    """
    graph, replaced = model.graph, set[str]()
    weights = {weight.name: weight for weight in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in weights or node.input[1] not in weights:
            continue
        target = numpy_helper.to_array(weights[node.input[1]]).copy()
        literal = [attribute for attribute in node.attribute if attribute.name == "allowzero" and attribute.i]
        if not target.size or target[0] != 1 or (literal and not target.all()):
            continue
        for attribute in literal:
            attribute.i = 0  # it says what zeros mean, and there were none
        target[0] = 0
        name = f"{node.output[0]}_shape"
        graph.initializer.append(numpy_helper.from_array(target, name))
        replaced.add(node.input[1])
        node.input[1] = name
    for name in replaced - _names_read(graph):
        graph.initializer.remove(weights[name])


def _names_read(graph: onnx.GraphProto) -> set[str]:
    """Tensors that its nodes, or those of graphs inside them, take, and its outputs."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    own = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    return own.union(*map(_names_read, inner))


def _sample(value: onnx.ValueInfoProto, rng: np.random.Generator, lowest: int, highest: int) -> np.ndarray:
    kind = value.type.tensor_type
    shape = [extent.dim_value for extent in kind.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, lowest), min(info.max, highest), size=shape, endpoint=True).astype(dtype)


def _session(model: onnx.ModelProto, weights: Weights) -> ort.InferenceSession:
    """A session on one thread, like an engine's."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL  # a batch that does not run is an answer here, and no error to print
    outside = [tensor.name for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    options.add_external_initializers(outside, [ort.OrtValue.ortvalue_from_numpy(weights[name]) for name in outside])
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, tensors: list[np.ndarray]) -> list[np.ndarray]:
    names = [value.name for value in session.get_inputs()]
    outputs: list[np.ndarray] = session.run(None, dict(zip(names, tensors, strict=True)))
    return outputs
