"""Split learning: one network trained by several parties, each with some of its stages.

    party 0            party 1            party 2
    stages 0..c1  -->  stages c1..c2 -->  stages c2..S      activations up
                  <--                <--                    their gradients down

Nobody sees another's weights.  Labels stay with any one party: the last, or, when they may not leave the device, the first,
to whom the logits then come back and who sends their gradient out (the U shape).  Pure computation, in numpy at the edges.
Source: Gupta & Raskar, "Distributed learning of deep neural network over multiple agents", JNCA 2018 (arXiv:1810.06060);
without sharing labels: Vepakomma et al., arXiv:1812.00564, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidDecision, InvalidModel, InvalidTensor

Tensors = tuple[np.ndarray, ...]
"""What crosses one cut: float32 arrays [N, ...], several where a skip connection passes it."""


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a training step, for whoever prices it."""

    source: int
    target: int
    num_bytes: int


class Party:
    """Some consecutive stages and their optimiser.  A stage takes and gives a tensor, or a tuple of them."""

    def __init__(self, stages: Sequence[nn.Module], optimiser: torch.optim.Optimizer | None = None) -> None:
        self.stages, self._optimiser = nn.ModuleList(stages), optimiser
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._outputs: tuple[torch.Tensor, ...] = ()

    def forward(self, inputs: Tensors) -> Tensors:
        """Activations behind the party's last stage; kept until `backward`."""
        self._inputs = tuple(_leaf(array) for array in inputs)
        values = self._inputs
        for stage in self.stages:
            output = stage(*values)
            values = (output,) if isinstance(output, torch.Tensor) else tuple(output)
        self._outputs = values
        return tuple(value.detach().numpy() for value in values)

    def backward(self, gradients: Tensors) -> Tensors:
        """Gradients of the loss by the outputs -> by the inputs, 0 for integers; the stages' own are accumulated.

        Raises InvalidTensor unless there is one for each output of the last `forward`, of its shape and finite.
        """
        shapes = [tuple(output.shape) for output in self._outputs]
        if not shapes or [gradient.shape for gradient in gradients] != shapes:
            raise InvalidTensor(f"gradients {[each.shape for each in gradients]} do not fit the outputs {shapes} of the last forward pass")
        if not all(np.isfinite(gradient).all() for gradient in gradients):
            raise InvalidTensor("gradients from the next party have infinities or NaN; lower the learning rate")
        pairs = [(output, torch.tensor(each)) for output, each in zip(self._outputs, gradients, strict=True) if output.requires_grad]
        if pairs:
            torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
        inputs, self._inputs, self._outputs = self._inputs, (), ()
        return tuple(np.zeros(tuple(each.shape), np.float32) if each.grad is None else each.grad.numpy() for each in inputs)

    def step(self) -> None:
        """Move the weights by what was accumulated, and forget it.  A party without an optimiser is frozen."""
        if self._optimiser is not None:
            self._optimiser.step()
        self.stages.zero_grad()


def chain_stages(network: nn.Module) -> list[nn.Module]:
    """The stages of an `nn.Sequential`.  Raises InvalidModel for another module: say what its stages are yourself."""
    if not isinstance(network, nn.Sequential) or not len(network):
        raise InvalidModel(
            f"only a Sequential with stages has an order to be split in, got {type(network).__name__}; pass a list of stages"
        )
    return list(network)


def split_stages(stages: Sequence[nn.Module], cuts: Sequence[int]) -> list[list[nn.Module]]:
    """Stages of each party: cut k is behind stage k, so there is one party more than cuts.

    Raises InvalidDecision unless 0 < cuts < S and they rise.
    """
    ends = [0, *cuts, len(stages)]
    if any(start >= end for start, end in pairwise(ends)):
        raise InvalidDecision(f"cuts must rise between 1 and {len(stages) - 1}, got {list(cuts)}")
    return [list(stages[start:end]) for start, end in pairwise(ends)]


def loss_and_gradient(logits: Tensors, labels: np.ndarray) -> tuple[float, Tensors]:
    """What the labels' owner computes: mean cross-entropy of logits [N, C] and int64 labels [N], and its gradient.

    Of several exits' logits: the sum of theirs, each exit's weight being 1 (as `runtime.models.fitting.objective` has it).
    Raises InvalidTensor for other than tensors of logits [N, C] for N labels below C.
    """
    if not logits or any(each.ndim != 2 or each.shape[:1] != labels.shape for each in logits):
        raise InvalidTensor(f"{labels.shape} labels need as many logits [N, C] of each exit, got {[each.shape for each in logits]}")
    num_classes = min(each.shape[1] for each in logits)
    if labels.size == 0 or labels.dtype != np.int64 or not 0 <= labels.min() <= labels.max() < num_classes:
        raise InvalidTensor(f"labels must be int64 indices of {num_classes} classes, and at least one")
    leaves = [_leaf(each) for each in logits]
    loss = torch.stack([functional.cross_entropy(leaf, torch.tensor(labels)) for leaf in leaves]).sum()
    torch.autograd.backward(loss)
    gradients = [leaf.grad for leaf in leaves]
    return loss.item(), tuple(gradient.numpy() for gradient in gradients if gradient is not None)


def split_step(parties: Sequence[Party], inputs: Tensors, labels: np.ndarray, label_party: int = -1) -> tuple[float, list[Transfer]]:
    """One whole training step in one process: the loss, and the messages it takes, in order.

    The reference for what the messages of a distributed step must add up to.  Raises InvalidDecision for a label party that
    is not there, and like `Party.backward` and `loss_and_gradient`.
    """
    last = len(parties) - 1
    owner = last if label_party == -1 else label_party
    if not 0 <= owner <= last:
        raise InvalidDecision(f"the labels must be with one of the parties 0..{last}, got {label_party}")
    transfers: list[Transfer] = []
    values = inputs
    for index, party in enumerate(parties):
        _send(transfers, index - 1, index, values)
        values = party.forward(values)
    _send(transfers, last, owner, values)
    loss, gradients = loss_and_gradient(values, labels)
    _send(transfers, owner, last, gradients)
    for index in range(last, -1, -1):
        gradients = parties[index].backward(gradients)
        _send(transfers, index, index - 1, gradients)
    for party in parties:
        party.step()
    return loss, transfers


def _send(transfers: list[Transfer], source: int, target: int, values: Tensors) -> None:
    if source != target and min(source, target) >= 0:
        transfers.append(Transfer(source=source, target=target, num_bytes=sum(value.nbytes for value in values)))


def _leaf(array: np.ndarray) -> torch.Tensor:
    tensor = torch.tensor(array)
    return tensor.requires_grad_(tensor.is_floating_point())
