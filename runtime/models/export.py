"""From torch to an ONNX graph: one export of the whole network, as it is."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from runtime.errors import InvalidModel

OPSET = 18
"""The first with ReduceMean's axes as an input, which is what torch's exporter writes; older ones are converted."""


def export_graph(network: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """A network and one example input -> its graph with inferred shapes; outputs are the exits' results, in order.

    The network is switched to evaluation; it gives one tensor, or a list or tuple of one per exit.  Normalisations
    behind a convolution are folded into it by torch's exporter.
    Raises InvalidModel when the network fails on the example, gives something else, or cannot be traced: control flow
    that depends on values, operators that ONNX does not have.
    """
    check_outputs(network.eval(), example)
    try:
        with _quiet():
            program = torch.onnx.export(network, (example,), dynamo=True, verbose=False, opset_version=OPSET, input_names=["input"])
        assert program is not None
        return onnx.shape_inference.infer_shapes(program.model_proto, strict_mode=True)
    except (torch.onnx.OnnxExporterError, onnx.shape_inference.InferenceError) as exc:
        raise InvalidModel(
            f"{type(network).__name__} cannot be exported to ONNX: {_reason(exc)}; "
            "its forward must trace with torch.export: no branches or loops that depend on values"
        ) from exc


def check_outputs(network: nn.Module, example: torch.Tensor) -> None:
    """Raise InvalidModel unless the network turns the example into one tensor, or a list or tuple of tensors."""
    shape = f"{str(example.dtype).removeprefix('torch.')}{list(example.shape)}"
    try:
        with torch.no_grad():
            results = network(example)
    except Exception as exc:
        raise InvalidModel(f"{type(network).__name__} fails on an input of {shape}: {type(exc).__name__}: {_first_line(exc)}") from exc
    for result in results if isinstance(results, Sequence) and results else [results]:
        if not isinstance(result, torch.Tensor):
            raise InvalidModel(
                f"{type(network).__name__} must give one tensor, or a list or tuple of one per exit; got {type(result).__name__} inside"
                f" {type(results).__name__}"
            )


def _reason(exc: BaseException) -> str:
    """The first line of the error that started it all: torch's exporter wraps it in pages of advice."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return f"{type(exc).__name__}: {_first_line(exc)}"


def _first_line(exc: BaseException) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), "no message")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence known remarks of torch 2.13's exporter: torchvision is absent, a deprecated name of its own, LSTM weights it reassigns."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r"The tensor attributes .*_flat_weights.* were assigned", category=UserWarning)
            yield
    finally:
        log.setLevel(level)
