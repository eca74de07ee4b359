"""The state of local training as bytes: a restarted client goes on as if nothing had happened."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from runtime.errors import InvalidCheckpoint

_STEPS, _WEIGHTS, _VELOCITY = "num_steps", "weights.", "velocity."
_BUFFER = "momentum_buffer"


def save_training(network: nn.Module, optimiser: torch.optim.SGD, num_steps: int) -> bytes:
    """All weights and buffers, each parameter's velocity where it has one, and the number of steps."""
    tensors = {_STEPS: torch.tensor(num_steps)}
    tensors |= {_WEIGHTS + name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        velocity = optimiser.state.get(parameter, {}).get(_BUFFER)
        if velocity is not None:
            tensors[_VELOCITY + name] = velocity.clone().contiguous()
    return save(tensors)


def load_training(data: bytes, network: nn.Module, optimiser: torch.optim.SGD) -> int:
    """Fill network and optimiser, and give the number of steps.  Raises InvalidCheckpoint, with both as they were."""
    try:
        tensors = load(data)
        num_steps = int(tensors.pop(_STEPS))
    except (SafetensorError, KeyError, ValueError, RuntimeError) as exc:
        raise InvalidCheckpoint(f"{len(data)} bytes are no training state: {exc}") from exc
    weights = {name.removeprefix(_WEIGHTS): tensor for name, tensor in tensors.items() if name.startswith(_WEIGHTS)}
    velocities = {name.removeprefix(_VELOCITY): tensor for name, tensor in tensors.items() if name.startswith(_VELOCITY)}
    parameters = dict(network.named_parameters())
    if num_steps < 0 or _shapes(weights) != _shapes(network.state_dict()) or not _shapes(velocities).items() <= _shapes(parameters).items():
        raise InvalidCheckpoint("a training state of another network; start anew, or load it into the network that it is of")
    network.load_state_dict(weights)
    optimiser.state.clear()
    for name, velocity in velocities.items():
        optimiser.state[parameters[name]] = {_BUFFER: velocity}
    return num_steps


def _shapes(tensors: dict[str, torch.Tensor] | dict[str, nn.Parameter]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
