"""Size and work of a torch network: parameters and floating-point operations, counted and not estimated.

Counted are the operators that dominate: convolutions, linear layers and matrix products (2 per multiply-accumulate), LSTM
layers (their matrix products), batch normalisation (2 per value: it is one scale and one shift at inference).
Element-wise operators, pooling and biases are not.  Source: torch's `FlopCounterMode` for all but the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def count_parameters(network: nn.Module) -> int:
    """Trainable values; those of batch normalisation included, its running statistics not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, example: torch.Tensor) -> int:
    """Floating-point operations of one forward pass in evaluation mode on a batch of any size."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), flop_counter() as counter:
            network(example)
    finally:
        network.train(training)
    return int(counter.get_total_flops())


def flop_counter(*, batch_norm: bool = True) -> FlopCounterMode:
    """A context that counts what runs inside it, batch normalisation only if asked to."""
    mapping: dict[Any, Any] = {torch.ops.aten.mkldnn_rnn_layer: _lstm_flops}
    if batch_norm:
        names = ("native_batch_norm", "_native_batch_norm_legit_no_training")
        mapping |= {getattr(torch.ops.aten, name): _batch_norm_flops for name in names}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _batch_norm_flops(values: Shape, *others: Any, **more: Any) -> int:
    return 2 * torch.Size(values).numel()


def _lstm_flops(inputs: Shape, input_weights: Shape, hidden_weights: Shape, *others: Any, **more: Any) -> int:
    """Inputs [T, N, I], weights [4H, I] and [4H, H]: both products once for each step of each sequence."""
    steps = inputs[0] * inputs[1]
    return 2 * steps * (torch.Size(input_weights).numel() + torch.Size(hidden_weights).numel())
