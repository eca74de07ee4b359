"""From a specification to trained networks: the network itself, and each smaller form that its variants ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_state
from safetensors.torch import save as save_state
from torch import nn

from runtime.errors import InvalidConfig, InvalidModel
from runtime.files import write_atomically
from runtime.models.compression import FORMS, Trained
from runtime.models.counting import count_flops, count_parameters
from runtime.models.examples import Examples
from runtime.models.exits import add_exits
from runtime.models.export import check_outputs
from runtime.models.factories import call_factory, make_network, taken_arguments
from runtime.models.fitting import fit_network, seeded
from runtime.models.network import ExitsOnly
from runtime.models.pixels import PixelInput
from runtime.models.variant_names import FORM_NAMES, parse_variant
from runtime.models.zoo import ModelSpec

Progress = Callable[[str, float], None]

DENSE = FORM_NAMES[0]


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One form of the network, ready for export, and its size as it was trained."""

    network: nn.Module
    num_parameters: int
    flops: int


class ListedLogits(nn.Module):
    """A network of one exit, or of a tuple of them, as the training loop wants it: a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """uint8 [N, C, H, W] -> logits [N, num_classes] of each exit"""
        logits = self.network(image)
        return [logits] if isinstance(logits, torch.Tensor) else list(logits)


def make_forms(spec: ModelSpec, num_classes: int, train: Examples, kept: Path, progress: Progress) -> dict[str, Form]:
    """The forms that the variants need, the network as it is first; trained where there is a dataset.

    `kept` is a file for the trained weights: taken from there if it exists, else left there.  `progress` hears shares of
    all the training.  Raises InvalidModel for a network that does not fit the data, InvalidConfig for a form it cannot have.
    """
    example = torch.from_numpy(train.images[0])
    wanted = [form for form in FORM_NAMES[1:] if form in {parse_variant(variant).form for variant in spec.variants}]
    if not spec.dataset:
        return {DENSE: make_untrained(spec, num_classes, train.images[0])}
    if "slim" in wanted and not taken_arguments(spec.factory, {"width": 1.0}):
        raise InvalidConfig(f"a slim variant needs a factory with a parameter `width`, {spec.factory} has none; use pruned instead")
    num_trained = 1 + len(wanted)

    def make(width: float = 1.0) -> nn.Module:
        return _make_trainable(spec, num_classes, example, width)

    network = _train(spec, make, train, kept, lambda done: progress("training", done / num_trained))
    trained = Trained(network=network, factory=make, train=train, fit=spec.fit, exit_weights=spec.exit_weights or None, flip=spec.fit.flip)
    networks = {DENSE: network}
    for number, form in enumerate(wanted, start=1):
        options = {"flops_share": spec.flops_shares[form]} if form in spec.flops_shares else {}
        networks[form] = FORMS[form](trained, _part(progress, f"training {form}", number, num_trained), **options)
    return {form: _form(each, example) for form, each in networks.items()}


def make_untrained(spec: ModelSpec, num_classes: int, example: np.ndarray) -> Form:
    """The network before any training, ready for export.  `num_classes` counts where there is a dataset.  Raises like `make_forms`."""
    image = torch.from_numpy(example)
    if not spec.dataset:
        network = _with_exits(spec, make_network(spec.factory, spec.arguments, spec.fit.seed), image)
        check_outputs(network.eval(), image)
        return _form(network, image)
    with seeded(spec.fit.seed):
        network = _make_trainable(spec, num_classes, image, 1.0)
    return _form(network, image)


def _train(spec: ModelSpec, make: Callable[[], nn.Module], train: Examples, kept: Path, progress: Callable[[float], None]) -> nn.Module:
    """The trained network: with the weights that an equal training left, or by training now."""
    if kept.is_file():
        with seeded(spec.fit.seed):  # what the factory draws that is not in the state dict is drawn as it was for the training
            network = make().eval()
        try:
            network.load_state_dict(load_state(kept.read_bytes()))
        except (SafetensorError, RuntimeError) as exc:
            raise InvalidModel(f"{kept} does not hold the trained weights of {spec.name}: {exc}; remove the file") from exc
        return network
    network = fit_network(make, train, spec.fit, exit_weights=spec.exit_weights or None, progress=progress)
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()}
    write_atomically(kept, save_state(state))
    return network


def _make_trainable(spec: ModelSpec, num_classes: int, example: torch.Tensor, width: float) -> nn.Module:
    """The untrained network as the training loop takes it; `width` scales the specification's own."""
    arguments = spec.arguments if width == 1.0 else spec.arguments | {"width": width * spec.arguments.get("width", 1.0)}
    network = _with_exits(spec, call_factory(spec.factory, arguments), example)
    check_outputs(network.eval(), example)
    with torch.no_grad():
        results = network(example)
    if not isinstance(results, list):
        network = ListedLogits(network)
    shapes = [tuple(result.shape) for result in ([results] if isinstance(results, torch.Tensor) else results)]
    if set(shapes) != {(1, num_classes)}:
        raise InvalidModel(f"{spec.factory} gives {shapes} for one picture; {num_classes} classes need [1, {num_classes}] at each exit")
    if spec.exit_weights and len(spec.exit_weights) != len(shapes):
        raise InvalidConfig(f"{spec.name}: {len(spec.exit_weights)} exit weights for {len(shapes)} exits; give one each")
    if isinstance(network, ExitsOnly):
        return network
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # missing in torch's annotations


def _with_exits(spec: ModelSpec, network: nn.Module, example: torch.Tensor) -> nn.Module:
    if spec.scale_pixels:
        network = PixelInput(network)
    if not spec.num_exits:
        return network
    check_outputs(network.eval(), example)
    with torch.no_grad():
        if not isinstance(network(example), torch.Tensor):
            raise InvalidModel(f"{spec.factory} has exits of its own: build it without adding any")
    return add_exits(network, example, at=spec.num_exits, seed=spec.fit.seed)


def _form(network: nn.Module, example: torch.Tensor) -> Form:
    """Count, then fold what folds itself.

    Exported in one memory format: channels-last, a flattening becomes a gathering, and pruned weights are not channels-last.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's annotations
    form = Form(network=network, num_parameters=count_parameters(network), flops=count_flops(network, example))
    for module in network.modules():
        if isinstance(module, ExitsOnly):
            module.fold()
    return form


def _part(progress: Progress, phase: str, number: int, total: int) -> Callable[[float], None]:
    return lambda done: progress(phase, (number + done) / total)
