"""Local steps of one client between two aggregations: SGD on its own examples, from the global weights.

    w <- w - lr u,   u <- m u + clip(grad F_i(w) + mu (w - w_global))

Source: McMahan et al., AISTATS 2017 (arXiv:1602.05629), algorithm 1; the proximal term: Li et al., "FedProx", MLSys 2020
(arXiv:1812.06127), eq. 2.  With momentum each client keeps its own velocity, so that one step between aggregations is
momentum SGD on the average gradient.  Set momentum to 0 behind a compressor that has a momentum of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.messages import LocalSpec
from runtime.models.examples import Examples
from runtime.models.fitting import Teacher, objective, set_training_mode
from runtime.training import flat
from runtime.training.checkpoint import load_training, save_training
from runtime.training.minibatches import minibatch
from runtime.training.step_randomness import step_randomness
from runtime.training.steps import GRADIENT, STEP


class GradientStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A client's part of an adaptive period, on one minibatch: its weights before the aggregation (w_i) against the global (w).

    rho_i = |F_i(w_i) - F_i(w)| / ||w_i - w||, beta_i = ||grad F_i(w_i) - grad F_i(w)|| / ||w_i - w||, and delta_i =
    ||grad F_i(w) - grad F(w)||, for which the aggregator averages `global_gradient` over clients.
    Source: Wang et al., "Adaptive Federated Learning in Resource Constrained Edge Computing Systems", JSAC 2019, algorithm 3.
    """

    rho: float
    beta: float
    global_gradient: np.ndarray
    """float32 [num_trainable]: grad F_i(w)."""


class LocalResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sends after its local steps."""

    update: np.ndarray
    """float32 [n]: local weights minus global ones (layout: runtime/training/flat.py)."""
    loss: float
    """Mean over the steps of the minibatch's loss before the step, without the proximal term."""
    num_examples: int
    """Weight in the average: what the client has, not what it has seen."""
    num_steps: int
    statistics: GradientStatistics | None = None
    """None where they were not asked for, where the client has no weights of its own yet, where they are the global ones, and where
    they went astray: of what is not finite there are no ratios."""


class _Point(NamedTuple):
    """Weights float32 [n], and loss and gradient float32 [num_trainable] there."""

    weights: np.ndarray
    loss: float
    gradient: np.ndarray


def _go_on(kind: str) -> None:
    """Nobody waits for steps."""


class LocalTrainer:
    """A client's network, examples and optimiser between rounds.  One thread; the caller's torch generator is left alone."""

    def __init__(self, network: nn.Module, examples: Examples, spec: LocalSpec, teacher: Teacher | None = None) -> None:
        if not len(examples.labels):
            raise InvalidConfig("a client without examples cannot train; leave it out of the partition")
        self._network, self._spec, self._teacher = network, spec, teacher
        self._inputs, self._labels = torch.tensor(examples.images[:, 0]), torch.tensor(examples.labels)
        self._optimiser = torch.optim.SGD(flat.trainable(network), lr=spec.learning_rate, momentum=spec.momentum)
        self._num_steps = 0

    @property
    def network(self) -> nn.Module:
        """The module that is trained, for evaluation."""
        return self._network

    def run(self, weights: np.ndarray, num_steps: int, after: Callable[[str], None] = _go_on, *, compare: bool = False) -> LocalResult:
        """Take `num_steps` steps from the global weights float32 [n], and `compare` these with its own: that takes a gradient more.

        `after` is called with its kind (runtime/training/steps.py) after each of these, and may raise to stop.
        Raises InvalidConfig for fewer than one step, InvalidTensor for weights of another model or not finite.
        """
        if num_steps < 1:
            raise InvalidConfig(f"local training takes at least one step, got {num_steps}")
        own = self._look(after) if compare and self._num_steps else None
        flat.from_vector(self._network, weights)
        anchors = [parameter.detach().clone() for parameter in flat.trainable(self._network)]
        losses, statistics = [], None
        for index in range(num_steps):
            losses.append(self._backward())
            if own is not None and index == 0:
                statistics = self._compared(own, weights, losses[0])
            self._step(anchors)
            after(STEP)
        return LocalResult(
            update=flat.to_vector(self._network) - weights,
            loss=float(np.mean(losses)),
            num_examples=len(self._labels),
            num_steps=num_steps,
            statistics=statistics,
        )

    def rehearse(self) -> float:
        """Seconds that a step's forward and backward pass take; afterwards network and order of examples are as before."""
        before = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}  # running statistics move
        began_s = time.perf_counter()
        self._backward()
        took_s = time.perf_counter() - began_s
        self._network.load_state_dict(before)
        return took_s

    def save(self) -> bytes:
        """Weights, velocities and position in the order of examples, in the safetensors format."""
        return save_training(self._network, self._optimiser, self._num_steps)

    def load(self, data: bytes) -> None:
        """Go on exactly where `save` was called.  Raises InvalidCheckpoint for other data or another network's."""
        self._num_steps = load_training(data, self._network, self._optimiser)

    def _step(self, anchors: list[torch.Tensor]) -> None:
        """Move along the gradients that are there."""
        parameters = flat.trainable(self._network)
        for parameter, anchor in zip(parameters, anchors, strict=True):
            if self._spec.proximal and parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self._spec.proximal)
        if self._spec.max_gradient_norm:
            nn.utils.clip_grad_norm_(parameters, self._spec.max_gradient_norm)
        self._optimiser.step()
        self._num_steps += 1

    def _backward(self) -> float:
        """Loss of the next step's minibatch; its gradients are left in the parameters."""
        spec, step = self._spec, self._num_steps
        index = torch.from_numpy(minibatch(len(self._labels), spec.batch_size, spec.seed, step))
        with step_randomness(spec.seed, step):
            set_training_mode(self._network)
            self._optimiser.zero_grad()
            loss = objective(self._network, self._inputs[index], self._labels[index], teacher=self._teacher)
            torch.autograd.backward(loss)
        return loss.item()

    def _look(self, after: Callable[[str], None]) -> _Point:
        """Where the network is with its own weights, on the next minibatch."""
        weights, loss = flat.to_vector(self._network), self._backward()
        own = _Point(weights=weights, loss=loss, gradient=flat.gradient_vector(self._network).copy())
        after(GRADIENT)
        return own

    def _compared(self, own: _Point, weights: np.ndarray, loss: float) -> GradientStatistics | None:
        """Against the global weights, whose gradient on the same minibatch is the one of the first step and has just been computed."""
        gradient = flat.gradient_vector(self._network).copy()
        distance = float(np.linalg.norm((own.weights - weights)[: gradient.size].astype(np.float64)))
        if not 0.0 < distance < math.inf:
            return None
        apart = float(np.linalg.norm((own.gradient - gradient).astype(np.float64)))
        found = GradientStatistics(rho=abs(own.loss - loss) / distance, beta=apart / distance, global_gradient=gradient)
        is_finite = math.isfinite(found.rho) and math.isfinite(found.beta) and bool(np.isfinite(gradient).all())
        return found if is_finite else None
