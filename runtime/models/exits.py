"""Early exits for a network that has none, by one call and without a change to its code.

The network is traced to a graph of operators.  After operator i the tensors that are made and still needed are *live*;
where exactly one is, everything later follows from it, and a classifier can branch off:

    x -> conv a -> relu b -> conv c -> add d -> conv e -> fc f       live after a: {a}, b: {b}, c: {b, c}, d: {d}, e: {e}
                       \\_______________/                              places: b, d

Of those with no weights between them only the last feature map counts (b, not a: the activation belongs to it).  Two
layers with weights must follow, or the exit would be as deep as the network's own classifier (which rules e out).
Source of the idea: Teerapittayanon, McDanel, Kung, "BranchyNet", ICPR 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec
import torch
from torch import fx, nn

from runtime.errors import InvalidConfig
from runtime.models.counting import flop_counter
from runtime.models.tracing import trace


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a classifier can branch off."""

    name: str
    """The operator whose output is the one live tensor; for `at`."""
    compute_fraction: float
    """Share of the work of convolutions, linear layers and the like that is done by then."""
    shape: tuple[int, ...]
    """The tensor's, for the example given."""


class ExitHead(nn.Module):
    """Global average pooling where there is something to pool, then a linear classifier."""

    def __init__(self, shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.pooled = tuple(range(2, len(shape)))
        self.classify = nn.Linear(shape[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, F, ...] -> logits [N, num_classes]"""
        logits: torch.Tensor = self.classify(x.mean(self.pooled) if self.pooled else x)
        return logits


def add_exits(
    module: nn.Module, example: torch.Tensor, *, at: int | Sequence[str], num_classes: int | None = None, seed: int = 0
) -> fx.GraphModule:
    """A network that returns a list of logits [N, num_classes], the last `module`'s own, and shares its weights.

    `at` is a number of exits, spread evenly over the compute, or names out of `find_places(module, example)`.
    The classifiers are drawn from `seed` and need training.  Raises InvalidConfig when the module cannot be traced, does
    not turn the example into one tensor of logits (of `num_classes`, if given), or has no such places.
    """
    traced, run = _trace(module, example)
    found = run.num_classes
    if num_classes not in {None, found}:
        raise InvalidConfig(f"num_classes is {num_classes}, but {type(module).__name__} returns {found} logits")
    nodes = {node.name: node for node in traced.graph.nodes}
    chosen = _choose(_places(traced.graph, run), at)
    logits = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, place in enumerate(chosen):
            traced.add_submodule(f"exit_head_{number}", ExitHead(place.shape, found))
            with traced.graph.inserting_after(nodes[place.name]):
                logits.append(traced.graph.call_module(f"exit_head_{number}", (nodes[place.name],)))
    output = traced.graph.output_node()
    output.args = ([*logits, output.args[0]],)
    traced.recompile()
    return traced


def find_places(module: nn.Module, example: torch.Tensor) -> list[Place]:
    """Where `add_exits` can branch off, in order.  Raises InvalidConfig like it."""
    traced, run = _trace(module, example)
    return _places(traced.graph, run)


class _Run(fx.Interpreter):
    """One run of an example: each operator's work and the tensor it makes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.flops: dict[fx.Node, int] = {}
        self.tensors: dict[fx.Node, torch.Tensor] = {}
        self.num_classes = 0

    def run_node(self, n: fx.Node) -> Any:
        """Run one operator; weights are no tensors of the run."""
        with flop_counter(batch_norm=False) as counter:
            result = super().run_node(n)
        self.flops[n] = counter.get_total_flops()
        if isinstance(result, torch.Tensor) and n.op not in {"get_attr", "output"}:
            self.tensors[n] = result.detach()
        return result


def _trace(module: nn.Module, example: torch.Tensor) -> tuple[fx.GraphModule, _Run]:
    traced = trace(module)
    run = _Run(traced)
    training = module.training
    traced.eval()
    with torch.no_grad():
        logits = run.run(example)
    traced.train(training)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        raise InvalidConfig(f"{type(module).__name__} must return one tensor of logits [N, num_classes] to be given exits")
    run.num_classes = logits.shape[1]
    return traced, run


def _places(graph: fx.Graph, run: _Run) -> list[Place]:
    nodes = list(graph.nodes)
    order = {node: index for index, node in enumerate(nodes)}
    last_use = {node: max((order[user] for user in node.users), default=-1) for node in run.tensors}
    total = sum(run.flops.values())
    done, live, alone = 0, set[fx.Node](), []
    for index, node in enumerate(nodes):
        done += run.flops[node]
        live = {other for other in live | ({node} & run.tensors.keys()) if last_use[other] > index}
        later = sum(run.flops[other] > 0 for other in nodes[index + 1 :])
        if live == {node} and done > 0 and later > 1 and _can_classify(run.tensors[node]):
            alone.append(Place(name=node.name, compute_fraction=done / total, shape=tuple(run.tensors[node].shape)))
    groups = groupby(alone, key=lambda place: place.compute_fraction)
    return [max(enumerate(group), key=lambda pair: (len(pair[1].shape) > 2, pair[0]))[1] for _, group in groups]


def _can_classify(tensor: torch.Tensor) -> bool:
    return tensor.dim() >= 2 and tensor.is_floating_point()


def _choose(places: list[Place], at: int | Sequence[str]) -> list[Place]:
    """Places by name in the network's order; or, for a number, those nearest to even shares of the compute."""
    if isinstance(at, int):
        if not 1 <= at <= len(places):
            raise InvalidConfig(f"{at} exits asked for; this network has places for 1..{len(places)}")
        return _spread(places, at)
    if not at or len(set(at)) != len(at) or not set(at) <= {place.name for place in places}:
        raise InvalidConfig(f"exits at {list(at)}: give different names out of {', '.join(place.name for place in places)}")
    return [place for place in places if place.name in at]


def _spread(places: list[Place], count: int) -> list[Place]:
    chosen: list[Place] = []
    first = 0
    for number in range(count):
        target = (number + 1) / (count + 1)
        allowed = range(first, len(places) - (count - 1 - number))
        index = min(allowed, key=lambda index: abs(places[index].compute_fraction - target))
        chosen.append(places[index])
        first = index + 1
    return chosen
