"""Real federated training in one process: digits, a small network, label-skewed clients (Dirichlet 0.5), recorded round by round."""

from __future__ import annotations

import time
from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runtime.models.datasets import load_dataset
from runtime.models.examples import Examples
from runtime.training import flat
from runtime.training.aggregation import find_aggregator
from runtime.training.data.partition import dirichlet, examples_of
from runtime.training.local import LocalSpec, LocalTrainer
from runtime.training.recording import RecordedRound, Recording
from runtime.training.update import Update, UpdateHeader

LEARNING_RATE, BATCH_SIZE = 0.05, 16


@lru_cache
def scans(split: str) -> Examples:
    """The digits at their own 8x8 resolution, centred, float32 [N, 1, 64]: a step takes a fraction of a millisecond."""
    examples = load_dataset("digits").splits[split]
    small = examples.images[:, 0, 0].reshape(-1, 8, 8, 8, 8).mean(axis=(2, 4), dtype=np.float32) / 64 - 1
    return Examples(images=small.reshape(-1, 1, 64), labels=examples.labels)


def network(hidden_size: int) -> nn.Sequential:
    """Always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 10))


def num_bytes(hidden_size: int) -> int:
    """Of its weights in float32."""
    return flat.to_vector(network(hidden_size)).nbytes


def judge(weights: np.ndarray, hidden_size: int) -> tuple[float, float]:
    """Loss and accuracy of global weights on all clients' examples."""
    judged, examples = network(hidden_size), scans("train")
    flat.from_vector(judged, weights)
    with torch.no_grad():
        logits, labels = judged(torch.tensor(examples.images[:, 0])), torch.tensor(examples.labels)
        return functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()


def record_run(tau: int, num_rounds: int, *, seed: int = 0, num_clients: int = 8, hidden_size: int = 32) -> Recording:
    """Plain FedAvg: every client takes tau steps on its own examples, the weighted mean of their updates is added."""
    examples = scans("train")
    partition = dirichlet(examples.labels, num_clients, 0.5, np.random.default_rng(seed))
    parts = [examples_of(examples, partition, client) for client in range(num_clients)]
    specs = [LocalSpec(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE, seed=100 * seed + client) for client in range(num_clients)]
    trainers = [LocalTrainer(network(hidden_size), part, spec) for part, spec in zip(parts, specs, strict=True)]
    aggregator, weights = find_aggregator("fedavg"), flat.to_vector(network(hidden_size))
    state, initial_loss, rounds = aggregator.start(weights.size), judge(weights, hidden_size)[0], []
    for number in range(num_rounds):
        began_s = time.perf_counter()
        updates = []
        for client, trainer in enumerate(trainers):
            result = trainer.run(weights, tau)
            header = UpdateHeader(client=f"c{client}", round=number, num_examples=result.num_examples, num_local_steps=tau)
            updates.append(Update(header=header, delta=result.update))
        compute_s = (time.perf_counter() - began_s) / num_clients
        weights, state = aggregator.aggregate(weights, updates, state)
        loss, accuracy = judge(weights, hidden_size)
        up_bytes = num_clients * weights.nbytes
        rounds.append(
            RecordedRound(
                round=number, tau=tau, num_clients=num_clients, loss=loss, accuracy=accuracy,
                compute_s=compute_s, up_bytes=up_bytes, down_bytes=up_bytes,
            )
        )  # fmt: skip
    return Recording(learning_rate=LEARNING_RATE, initial_loss=initial_loss, rounds=tuple(rounds))
