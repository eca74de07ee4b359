"""Knowledge transfer: lower layers of a trained network reused on another task, frozen or as a start.

What is frozen is neither trained, nor sent, nor moved in its statistics: `runtime/training/flat.py` leaves it out of the
vector, and the training loops keep it in evaluation mode.  To imitate a teacher, hand a `runtime.models.fitting.Teacher` to
`LocalTrainer` or `train_network`.
Source: Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?", NeurIPS 2014
(arXiv:1411.1792), section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from runtime.errors import InvalidModel


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


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
