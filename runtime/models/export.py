"""From torch to a staged ONNX graph: one export, with a named tensor at every cut."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from runtime.models.network import MultiExitNetwork
from runtime.models.staged import StagedGraph

OPSET = 18
"""The first with ReduceMean's axes as an input, which is what torch's exporter writes; older ones are converted."""


class _Flat(nn.Module):
    """The network with its cuts and logits as one flat tuple: an output is the only way to name a tensor inside."""

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cuts, logits = self.network(image)
        return (*cuts, *logits)


def export_staged(network: MultiExitNetwork, image: torch.Tensor) -> StagedGraph:
    """A folded network and one example input uint8 [1, 1, H, W] -> the graph with its cuts and exits."""
    cuts = [f"cut{number}" for number in range(1, len(network.stages) + 1)]
    logits = [f"logits{number}" for number in range(len(network.exit_ends))]
    with _quiet():
        program = torch.onnx.export(
            _Flat(network).eval(),
            (image,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=cuts + logits,
        )
    assert program is not None
    model = program.model_proto
    _hide_outputs(model, set(cuts))
    return StagedGraph(model, [["image"], *([cut] for cut in cuts)], logits, network.exit_ends)


def _hide_outputs(model: onnx.ModelProto, names: set[str]) -> None:
    """Turn graph outputs into tensors inside the graph, still typed."""
    kept = [value for value in model.graph.output if value.name not in names]
    model.graph.value_info.extend(value for value in model.graph.output if value.name in names)
    del model.graph.output[:]
    model.graph.output.extend(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence two known remarks of torch 2.13's exporter: torchvision is absent, and it uses a deprecated name of its own."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)
