"""A module's weights as one float32 vector and back: what nodes average.

    [ trainable parameters, in named order | floating-point buffers that are saved, in named order ]

Averaged are the parameters that are trained and the running means and variances of batch normalisation, without which the
averaged weights would be judged with one client's statistics.  Left out are frozen parameters and everything inside a frozen
module (all nodes have the same), and integer buffers (counts of batches).  A lossy compressor may push a running variance
below 0; it is read back as 0.
Source: averaging of all of the state: McMahan et al., AISTATS 2017 (arXiv:1602.05629), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from runtime.errors import InvalidTensor


def num_elements(network: nn.Module) -> int:
    """Length of the vector."""
    return sum(tensor.numel() for tensor in _tensors(network))


def num_trainable(network: nn.Module) -> int:
    """Length of its first part, the parameters that have gradients."""
    return sum(parameter.numel() for parameter in trainable(network))


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in the vector's order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def to_vector(network: nn.Module) -> np.ndarray:
    """float32 [n], a copy.  Raises InvalidTensor for weights of another dtype."""
    tensors = _tensors(network)
    if any(tensor.dtype != torch.float32 for tensor in tensors):
        raise InvalidTensor(f"only float32 weights are averaged, got {sorted({str(tensor.dtype) for tensor in tensors})}")
    return np.concatenate([np.zeros(0, dtype=np.float32), *(tensor.detach().numpy().ravel() for tensor in tensors)])


def from_vector(network: nn.Module, vector: np.ndarray) -> None:
    """Write float32 [n] into the module, in place.  Raises InvalidTensor for another length, infinities and NaN."""
    tensors = _tensors(network)
    expected = sum(tensor.numel() for tensor in tensors)
    if vector.shape != (expected,) or vector.dtype != np.float32 or not np.isfinite(vector).all():
        raise InvalidTensor(f"weights are float32 [{expected}] and finite, got {vector.dtype}{list(vector.shape)}")
    parts = np.split(vector, np.cumsum([tensor.numel() for tensor in tensors])[:-1])
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(torch.tensor(part).view_as(tensor))
        for module in network.modules():
            variance = getattr(module, "running_var", None)
            if isinstance(variance, torch.Tensor):
                variance.clamp_(min=0.0)


def gradient_vector(network: nn.Module) -> np.ndarray:
    """float32 [num_trainable]: the gradients that the last backward pass left; 0 where there is none."""
    parts = [np.zeros(p.numel(), np.float32) if p.grad is None else p.grad.numpy().ravel() for p in trainable(network)]
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts])


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*trainable(network), *_buffers(network)]


def _buffers(network: nn.Module) -> Iterator[torch.Tensor]:
    saved = network.state_dict(keep_vars=True)
    for prefix, module in network.named_modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            continue
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point() and f"{prefix}.{name}".removeprefix(".") in saved:
                yield buffer
