"""Networks by name: `package.module:factory` is imported and called, and gives an `nn.Module`.

This is the only place that loads code by a name, and the name comes from a person: the command line or the zoo.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from runtime.errors import InvalidModel


def find_factory(target: str) -> Callable[..., Any]:
    """The callable that `package.module:name` names.  Raises InvalidModel when there is none."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidModel(f"a network is named package.module:factory, got {target!r}")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise InvalidModel(f"cannot import {module_name!r}: {type(exc).__name__}: {exc}; is its folder on PYTHONPATH?") from exc
    factory = getattr(module, attribute, None)
    if not callable(factory):
        kind = "nothing of that name" if factory is None else f"a value of type {type(factory).__name__}"
        raise InvalidModel(f"module {module_name!r} has no factory {attribute!r}, there is {kind}; it must be a function or class")
    checked: Callable[..., Any] = factory
    return checked


def make_network(target: str, arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Call a factory; weights it draws from torch's global generator follow `seed`, and the caller's generator is left alone.

    Raises InvalidModel like `call_factory`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return call_factory(target, arguments)


def call_factory(target: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call a factory with torch's global generator as it is.

    Raises InvalidModel when there is no such factory, when it raises, or when it gives anything but an `nn.Module`.
    """
    factory = find_factory(target)
    try:
        network = factory(**arguments)
    except Exception as exc:
        raise InvalidModel(f"{target} raised {type(exc).__name__}: {exc}") from exc
    if not isinstance(network, nn.Module):
        raise InvalidModel(f"{target} must give a torch.nn.Module, got {type(network).__name__}")
    return network


def taken_arguments(target: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments offered that the factory has parameters for.  Raises InvalidModel when there is no such factory."""
    parameters = inspect.signature(find_factory(target)).parameters
    return {name: value for name, value in offered.items() if name in parameters}
