"""Knowledge transfer: lower layers of a trained network reused on another task, frozen or as a start.

What is frozen is neither trained, nor sent, nor moved in its statistics: `runtime/training/flat.py` leaves it out of the
vector, and the training loops keep it in evaluation mode.  To imitate a teacher, hand a `runtime.models.fitting.Teacher` to
`LocalTrainer` or `train_network`.  How a job's nodes come by all this: runtime/training/transferred.py.

A *layer* is a part of the network with parameters of its own, in the order in which the module registers them: the members
of its outermost Sequential or ModuleLists.  Wrappers around one part, such as PixelInput, are looked through.
Source: Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?", NeurIPS 2014
(arXiv:1411.1792), section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from runtime.errors import InvalidModel, InvalidTensor
from runtime.training.update import find_defect


def reuse_layers(base: nn.Module, network: nn.Module, layers: Sequence[str], *, freeze: bool = True) -> int:
    """Copy the named submodules' weights and buffers ("0", "network.stages.1") from `base`, and freeze them.

    Returns the number of parameters that are left to train.  Raises InvalidModel for a layer that either lacks, or whose
    weights differ in name or shape; nothing is copied then.
    """
    pairs = [(find_layer(base, name), find_layer(network, name)) for name in layers]
    for name, (source, target) in zip(layers, pairs, strict=True):
        if _shapes(source) != _shapes(target):
            raise InvalidModel(f"layer {name!r} differs between the networks: {_shapes(source)} and {_shapes(target)}")
    for source, target in pairs:
        target.load_state_dict(source.state_dict())
    if freeze:
        freeze_layers(network, layers)
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def freeze_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Exclude the named submodules from training.  Raises InvalidModel for one that is not there, with none frozen."""
    for layer in [find_layer(network, name) for name in layers]:
        layer.requires_grad_(False)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The submodule of that dotted name.  Raises InvalidModel naming the top layers there are."""
    try:
        return network.get_submodule(name)
    except AttributeError as exc:
        there = ", ".join(child for child, _ in network.named_children())
        raise InvalidModel(f"the network has no layer {name!r}; its top layers are {there}") from exc


def layer_names(network: nn.Module) -> tuple[str, ...]:
    """Dotted names of the layers, the lowest first; the last is the head, or of several exits the last one's."""
    prefix, outer = "", network
    while len(inner := _with_parameters(outer)) == 1:
        ((name, outer),) = inner
        prefix += f"{name}."
    names = []
    for name, module in inner:
        members = [f"{name}.{member}" for member, _ in _with_parameters(module)] if isinstance(module, nn.ModuleList) else [name]
        names += [f"{prefix}{member}" for member in members]
    return tuple(names)


def lowest_layers(network: nn.Module, count: int) -> tuple[str, ...]:
    """Names of so many.  Raises InvalidModel when there are fewer."""
    names = layer_names(network)
    if count > len(names):
        raise InvalidModel(f"the network has no {count} layers to reuse; it has {', '.join(names)}")
    return names[:count]


def state_vector(modules: Iterable[nn.Module]) -> np.ndarray:
    """float32 [F]: every parameter and floating-point buffer of these modules, whether they are trained or not."""
    parts = [tensor.detach().numpy().ravel() for tensor in _state(modules)]
    return np.concatenate([np.zeros(0, dtype=np.float32), *parts]).astype(np.float32)


def load_state_vector(modules: Iterable[nn.Module], vector: np.ndarray) -> None:
    """Write what `state_vector` read, in place.  Raises InvalidTensor for another length or dtype, infinities and NaN."""
    tensors = _state(modules)
    sizes = [tensor.numel() for tensor in tensors]
    if (defect := find_defect(vector, sum(sizes))) is not None:
        got = f"{vector.dtype}{list(vector.shape)}"
        raise InvalidTensor(f"the base's weights are {defect}: expected finite float32 [{sum(sizes)}], got {got}")
    with torch.no_grad():
        for tensor, part in zip(tensors, np.split(vector, np.cumsum(sizes)[:-1]), strict=True):
            tensor.copy_(torch.tensor(part).view_as(tensor))


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module.named_children() if next(child.parameters(), None) is not None]


def _state(modules: Iterable[nn.Module]) -> list[torch.Tensor]:
    return [tensor for module in modules for tensor in module.state_dict().values() if tensor.is_floating_point()]


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
