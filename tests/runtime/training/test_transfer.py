"""Reused layers stay as they are, and only the rest is trained and sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from runtime.errors import InvalidModel, InvalidTensor
from runtime.messages import LocalSpec
from runtime.models.examples import Examples
from runtime.models.fitting import Teacher
from runtime.models.network import conv_chain
from runtime.models.networks.compact import compact_cnn
from runtime.training import flat
from runtime.training.local import LocalTrainer
from runtime.training.transfer import layer_names, load_state_vector, lowest_layers, reuse_layers, state_vector


def network(num_classes: int, seed: int) -> nn.Sequential:
    """A body of two layers and a head for so many classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, num_classes))


def drawn_examples() -> Examples:
    """Two classes that can be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    return Examples(images=(rng.normal(size=(40, 1, 4)) + 2 * labels[:, None, None]).astype(np.float32), labels=labels)


def test_the_base_is_reused_and_never_moves() -> None:
    """Weights and statistics of the body are the base's after training another task; the vector is the head alone."""
    base, student = network(5, seed=1), network(2, seed=2)
    assert reuse_layers(base, student, ["0"]) == 18
    start = flat.to_vector(student)
    assert start.size == 18
    result = LocalTrainer(student, drawn_examples(), LocalSpec(learning_rate=0.1)).run(start, 20)
    assert np.abs(result.update).max() > 0
    for expected, got in zip(base[0].state_dict().values(), student[0].state_dict().values(), strict=True):
        torch.testing.assert_close(got, expected, atol=0, rtol=0)


def test_a_start_that_is_not_frozen_is_trained() -> None:
    """The same layers, all 66 parameters and 16 running statistics left to train."""
    base, student = network(5, seed=1), network(2, seed=2)
    assert reuse_layers(base, student, ["0"], freeze=False) == 74
    assert flat.num_elements(student) == 90


def test_layers_that_do_not_fit_are_refused_whole() -> None:
    """A head for other classes, a layer that is not there; nothing is copied or frozen."""
    base, student = network(5, seed=1), network(2, seed=2)
    before = flat.to_vector(student)
    for layers in (["0", "1"], ["0", "2"]):
        with pytest.raises(InvalidModel):
            reuse_layers(base, student, layers)
    np.testing.assert_array_equal(flat.to_vector(student), before)


def test_a_teacher_pulls_a_client_towards_itself() -> None:
    """With all of the loss from the teacher, the student's answers come closer to its own."""
    teacher, student = network(2, seed=1).eval(), network(2, seed=2)
    inputs = torch.tensor(drawn_examples().images[:, 0])
    trainer = LocalTrainer(student, drawn_examples(), LocalSpec(learning_rate=0.1), Teacher(network=teacher, share=1.0))

    def gap() -> float:
        with torch.no_grad():
            return (torch.softmax(teacher(inputs), 1) - torch.softmax(student.eval()(inputs), 1)).abs().mean().item()

    before = gap()
    trainer.run(flat.to_vector(student), 60)
    assert gap() < 0.5 * before


def test_layers_are_counted_from_below_through_wrappers_and_lists() -> None:
    """Of a plain network, one behind a wrapper, and one with exits: parts without parameters are no layers."""
    assert layer_names(network(2, seed=1)) == ("0", "1")
    assert layer_names(compact_cnn(width=0.25)) == ("network.0", "network.1", "network.2", "network.5")
    chain = conv_chain(num_classes=3, stages=[[{"channels": 2}], [{"channels": 3}]], exits=[{"end": 1}, {"end": 2}])
    assert layer_names(chain) == ("network.stages.0", "network.stages.1", "network.heads.0", "network.heads.1")
    with pytest.raises(InvalidModel, match="no 3 layers"):
        lowest_layers(network(2, seed=1), 3)


def test_a_layers_state_goes_through_a_vector_unchanged() -> None:
    """Parameters and running statistics, frozen or not; what does not fit changes nothing."""
    base, student = network(2, seed=1), network(2, seed=2)
    base[0].requires_grad_(False)
    vector = state_vector([base[0]])
    assert vector.size == 4 * 8 + 8 + 4 * 8
    load_state_vector([student[0]], vector)
    np.testing.assert_array_equal(state_vector([student[0]]), vector)
    for bad in (vector[1:], vector.astype(np.float64), np.full_like(vector, np.nan)):
        with pytest.raises(InvalidTensor):
            load_state_vector([student[0]], bad)
    np.testing.assert_array_equal(state_vector([student[0]]), vector)
