"""Local steps are SGD, end where they should, and go on from a checkpoint exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidCheckpoint, InvalidConfig, InvalidTensor
from runtime.messages import LocalSpec
from runtime.models.examples import Examples
from runtime.training import flat
from runtime.training.local import LocalTrainer
from runtime.training.minibatches import minibatch
from runtime.training.steps import GRADIENT, STEP


def small_network(seed: int = 0) -> nn.Sequential:
    """Linear layers with batch normalisation and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def plain_network() -> nn.Sequential:
    """One linear layer: its gradients are easy to follow."""
    return nn.Sequential(small_network()[0], nn.Tanh(), small_network()[4])


def drawn_examples(num: int = 50) -> Examples:
    """Three classes that can be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, num)
    images = rng.normal(size=(num, 1, 4)) + labels[:, None, None]
    return Examples(images=images.astype(np.float32), labels=labels)


def test_a_rehearsal_takes_time_and_leaves_no_trace() -> None:
    """Weights, running statistics and counters are bit by bit what they were, and so is what is learned afterwards."""
    networks = small_network(), small_network()
    spec = LocalSpec(learning_rate=0.1, momentum=0.9, batch_size=8, seed=5)
    rehearsed, plain = (LocalTrainer(network, drawn_examples(), spec) for network in networks)
    before = {name: tensor.clone() for name, tensor in networks[0].state_dict().items()}
    assert all(rehearsed.rehearse() > 0 for _ in range(3))
    for name, tensor in networks[0].state_dict().items():
        assert torch.equal(tensor, before[name]), name
    weights = flat.to_vector(networks[1])
    np.testing.assert_array_equal(rehearsed.run(weights, 4).update, plain.run(weights, 4).update)


def test_one_client_aggregating_each_step_is_ordinary_sgd() -> None:
    """Momentum SGD of torch on the same batches has the same weights after every step."""
    examples, spec = drawn_examples(), LocalSpec(learning_rate=0.1, momentum=0.9, batch_size=8, seed=5)
    trainer, reference = LocalTrainer(plain_network(), examples, spec), plain_network()
    weights = flat.to_vector(reference)
    optimiser = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
    for step in range(20):
        weights = weights + trainer.run(weights, 1).update
        index = torch.from_numpy(minibatch(50, 8, 5, step))
        loss = functional.cross_entropy(reference(torch.tensor(examples.images[:, 0])[index]), torch.tensor(examples.labels)[index])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        np.testing.assert_allclose(weights, flat.to_vector(reference), atol=1e-6)


def test_a_restart_changes_nothing() -> None:
    """Velocity, order, dropout and statistics go on bit by bit from a checkpoint in a fresh network."""
    spec = LocalSpec(learning_rate=0.05, momentum=0.9, batch_size=8, seed=1)
    whole, first = (LocalTrainer(small_network(), drawn_examples(), spec) for _ in range(2))
    start = flat.to_vector(small_network())
    for trainer in (whole, first):
        trainer.run(start, 9)
    restored = LocalTrainer(small_network(seed=7), drawn_examples(), spec)
    restored.load(first.save())
    expected, got = (trainer.run(start, 9, compare=True) for trainer in (whole, restored))
    np.testing.assert_array_equal(expected.update, got.update)
    assert expected.loss == got.loss
    assert expected.statistics is not None
    assert got.statistics is not None
    assert expected.statistics.beta == got.statistics.beta


def test_the_caller_keeps_its_generator() -> None:
    """Seeding is local."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    LocalTrainer(small_network(), drawn_examples(), LocalSpec()).run(flat.to_vector(small_network()), 2)
    assert torch.rand(1) == expected


def test_statistics_by_hand() -> None:
    """Rho and beta of the second round are the differences of loss and gradient on the next minibatch."""
    spec, examples = LocalSpec(learning_rate=0.5, batch_size=50), drawn_examples()
    trainer, start = LocalTrainer(plain_network(), examples, spec), flat.to_vector(plain_network())
    own = start + trainer.run(start, 3).update
    statistics = trainer.run(start, 1, compare=True).statistics
    network, losses, gradients = plain_network(), [], []
    for weights in (own, start):
        flat.from_vector(network, weights)
        network.zero_grad()
        loss = functional.cross_entropy(network(torch.tensor(examples.images[:, 0])), torch.tensor(examples.labels))
        torch.autograd.backward(loss)
        losses.append(loss.item())
        gradients.append(flat.gradient_vector(network).copy())
    distance = np.linalg.norm(own - start)
    assert statistics is not None
    assert statistics.rho == pytest.approx(abs(losses[0] - losses[1]) / distance, rel=1e-3)
    assert statistics.beta == pytest.approx(np.linalg.norm(gradients[0] - gradients[1]) / distance, rel=1e-3)
    np.testing.assert_allclose(statistics.global_gradient, gradients[1], atol=1e-6)


def test_comparing_takes_one_gradient_more_and_changes_nothing() -> None:
    """The first round has nothing to compare; then updates, running statistics and the order of examples are bit by bit the same."""
    spec, kinds = LocalSpec(learning_rate=0.1, momentum=0.9, proximal=0.1, batch_size=8, seed=5), list[str]()
    compared, plain = (LocalTrainer(small_network(), drawn_examples(), spec) for _ in range(2))
    weights = flat.to_vector(small_network())
    for _ in range(3):
        expected, got = plain.run(weights, 4), compared.run(weights, 4, kinds.append, compare=True)
        np.testing.assert_array_equal(got.update, expected.update)
        assert got.loss == expected.loss
        assert expected.statistics is None
    assert got.statistics is not None
    assert kinds == [STEP] * 4 + 2 * [GRADIENT, *[STEP] * 4]


def test_the_proximal_term_keeps_a_client_near() -> None:
    """The larger mu, the shorter the way from the global weights."""
    start = flat.to_vector(plain_network())
    ways = []
    for proximal in (0.0, 1.0, 5.0):
        spec = LocalSpec(learning_rate=0.1, proximal=proximal)
        ways.append(np.linalg.norm(LocalTrainer(plain_network(), drawn_examples(), spec).run(start, 30).update))
    assert ways[0] > ways[1] > ways[2]


def test_clipping_bounds_a_step() -> None:
    """One step is no longer than learning rate times the largest norm."""
    spec = LocalSpec(learning_rate=1.0, max_gradient_norm=1e-3)
    update = LocalTrainer(plain_network(), drawn_examples(), spec).run(flat.to_vector(plain_network()), 1).update
    assert np.linalg.norm(update) == pytest.approx(1e-3, rel=1e-2)


def test_training_lowers_the_loss() -> None:
    """Normalisation, dropout and all."""
    trainer, weights = (
        LocalTrainer(small_network(), drawn_examples(), LocalSpec(learning_rate=0.1, momentum=0.9)),
        flat.to_vector(small_network()),
    )
    losses = []
    for _ in range(8):
        result = trainer.run(weights, 10)
        weights = weights + result.update
        losses.append(result.loss)
    assert losses[-1] < 0.7 * losses[0]


def test_the_vector_holds_running_statistics_and_no_counts() -> None:
    """40 + 16 + 27 parameters, 8 means, 8 variances; a variance below 0 is read back as 0."""
    network = small_network()
    vector = flat.to_vector(network)
    assert vector.size == flat.num_elements(network) == flat.num_trainable(network) + 16 == 99
    vector[-1] = -0.5
    flat.from_vector(network, vector)
    assert flat.to_vector(network)[-1] == 0
    np.testing.assert_array_equal(flat.to_vector(network)[:-1], vector[:-1])


def test_minibatches_cover_an_epoch_once() -> None:
    """Each example once, another order in the next epoch, small clients whole."""
    epochs = [np.concatenate([minibatch(12, 4, 0, step) for step in range(start, start + 3)]) for start in (0, 3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert list(epochs[0]) != list(epochs[1])
    assert sorted(minibatch(3, 8, 0, 17)) == [0, 1, 2]


def test_what_is_not_of_this_model_is_refused() -> None:
    """Weights, steps and checkpoints."""
    trainer = LocalTrainer(plain_network(), drawn_examples(), LocalSpec())
    with pytest.raises(InvalidTensor):
        trainer.run(np.zeros(3, np.float32), 1)
    with pytest.raises(InvalidTensor):
        trainer.run(flat.to_vector(plain_network()) * np.float32(np.nan), 1)
    with pytest.raises(InvalidConfig):
        trainer.run(flat.to_vector(plain_network()), 0)
    for data in (b"", b"garbage" * 9, LocalTrainer(small_network(), drawn_examples(), LocalSpec()).save()):
        with pytest.raises(InvalidCheckpoint):
            trainer.load(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_that_went_astray_are_not_compared(value: float) -> None:
    """A client that diverged says nothing of its loss, rather than NaN; its next update, from the weights that it is given, is sound."""
    network = plain_network()
    trainer, start = LocalTrainer(network, drawn_examples(), LocalSpec(learning_rate=0.05)), flat.to_vector(network)
    trainer.run(start, 1)
    with torch.no_grad():
        next(network.parameters()).fill_(value)
    result = trainer.run(start, 1, compare=True)
    assert np.isfinite(result.update).all()
    assert result.statistics is None or all(map(np.isfinite, (result.statistics.rho, result.statistics.beta)))
    assert (result.statistics is None) == (not np.isfinite(value))
