"""A network as a graph of operators that, like the network, does one thing in training and another in evaluation.

Tracing turns what `forward` makes of `self.training` into constants: of `F.dropout(x, p, self.training)` one of both modes
would remain.  So both are traced, and where they differ by such a constant it is read when the graph runs.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from runtime.errors import InvalidConfig

MODE = "training_mode"
"""Name of the submodule that tells the mode."""


class TrainingMode(nn.Module):
    """Says whether the network that it is part of is being trained."""

    def forward(self) -> bool:
        """Its own mode, which `train` and `eval` of the whole set."""
        return self.training


def trace(module: nn.Module) -> fx.GraphModule:
    """The module's graph, in the mode that the module is in; it shares its submodules.

    Raises InvalidConfig when it cannot be traced, or does in training other operations than in evaluation.
    """
    name = type(module).__name__
    modes = [(each, each.training) for each in module.modules()]
    try:
        training, evaluation = fx.symbolic_trace(module.train()), fx.symbolic_trace(module.eval())
    except (ValueError, TypeError, RuntimeError) as exc:
        raise InvalidConfig(f"{name} cannot be traced: {exc}; its forward pass must not depend on values") from exc
    finally:
        for each, mode in modes:
            each.training = mode
    nodes, others = list(evaluation.graph.nodes), list(training.graph.nodes)
    found = [_difference(node, other) for node, other in zip(nodes, others, strict=False)]
    if len(nodes) != len(others) or None in found:
        raise InvalidConfig(
            f"{name} computes something else in training than in evaluation: to be given exits, its forward pass must not branch on"
            " self.training; use modules that do (torch.nn.Dropout), or give it exits of its own"
        )
    _read_mode(evaluation, [(node, place) for node, places in zip(nodes, found, strict=True) for place in places or ()])
    evaluation.train(module.training)
    return evaluation


def _difference(node: fx.Node, other: fx.Node) -> list[int | str] | None:
    """Arguments, by position or name, that are False in evaluation and True in training; None where anything else differs."""
    if (node.op, node.target, len(node.args), list(node.kwargs)) != (other.op, other.target, len(other.args), list(other.kwargs)):
        return None
    pairs: list[tuple[int | str, tuple[Any, Any]]] = [
        *enumerate(zip(node.args, other.args, strict=True)),
        *((name, (node.kwargs[name], other.kwargs[name])) for name in node.kwargs),
    ]
    places: list[int | str] = []
    for place, (ours, theirs) in pairs:
        if ours is False and theirs is True:
            places.append(place)
        elif str(ours) != str(theirs):
            return None
    return places


def _read_mode(traced: fx.GraphModule, places: list[tuple[fx.Node, int | str]]) -> None:
    """Replace these arguments by what a submodule says of the mode."""
    if not places:
        return
    traced.add_submodule(MODE, TrainingMode())
    with traced.graph.inserting_before(next(iter(traced.graph.nodes))):
        mode = traced.graph.call_module(MODE)
    for node, place in places:
        if isinstance(place, int):
            node.update_arg(place, mode)
        else:
            node.update_kwarg(place, mode)
    traced.recompile()
