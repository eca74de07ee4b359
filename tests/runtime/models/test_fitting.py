"""One loop for training, distillation and fine-tuning of anything that returns a list of logits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from runtime.errors import InvalidConfig
from runtime.models import fitting
from runtime.models.examples import Examples
from runtime.models.exits import add_exits
from runtime.models.fitting import Teacher, one_thread, seeded, train_network
from runtime.models.logits import exit_accuracies, exit_logits
from runtime.models.zoo import FitSpec
from tests.runtime.models.small_networks import Residual, picture, stripes

SPEC = FitSpec(epochs=3, batch_size=20, learning_rate=0.02, max_shift_pixels=1)
TRAIN, TEST = stripes(300, 1), stripes(90, 2)


def untrained(seed: int = 0) -> nn.Module:
    """A residual network with two exits."""
    with seeded(seed):
        return add_exits(Residual(), picture(), at=["relu_1"])


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether all weights are equal to the last bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_every_exit_learns_and_progress_is_told() -> None:
    """Both exits tell the stripes apart after a few epochs; the network comes back ready to be used."""
    told: list[float] = []
    network = untrained()
    train_network(network, TRAIN, SPEC, flip=True, progress=told.append)
    assert not network.training
    assert min(exit_accuracies(network, TEST)) > 0.9
    assert told == pytest.approx([1 / 3, 2 / 3, 1])


def test_seed_decides_and_the_callers_state_is_kept() -> None:
    """The same seed gives the same weights, another others; generator and number of threads are as before."""
    threads = torch.get_num_threads()
    networks = [copy.deepcopy(untrained()) for _ in range(3)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        train_network(network, TRAIN, FitSpec(epochs=1, seed=seed), flip=True)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])


def test_exit_without_weight_is_not_trained() -> None:
    """A weight of 0 leaves an exit's classifier to weight decay alone: it gets no gradient."""
    network = untrained()
    train_network(network, TRAIN, FitSpec(epochs=1), exit_weights=[0.0, 1.0])
    head = network.get_submodule("exit_head_0")
    assert all(not parameter.grad.any() for parameter in head.parameters() if parameter.grad is not None)


def test_loss_with_a_teacher_by_hand() -> None:
    """0.4 CE + 0.6 * 4 KL at temperature 2, one example, two classes."""
    student, taught = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    teacher = Teacher(network=_AsList(nn.Identity()), temperature=2.0, share=0.6)
    (loss,) = fitting._losses([student], taught, torch.tensor([0]), teacher)
    p, q = np.array([1, np.exp(2)]) / (1 + np.exp(2)), np.array([np.exp(1), 1]) / (1 + np.exp(1))
    expected = 0.4 * np.log(1 + np.exp(-2)) + 0.6 * 4 * (p * np.log(p / q)).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


class _AsList(nn.Module):
    """A network of one exit."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Anything -> a list of logits"""
        return [self.network(x)]


def test_student_imitates_at_every_exit() -> None:
    """With the teacher's share at 1 labels do not count: a student of shuffled labels still learns at both exits."""
    teacher = untrained()
    train_network(teacher, TRAIN, SPEC)
    before = copy.deepcopy(teacher)
    shuffled = Examples(images=TRAIN.images, labels=np.random.default_rng(0).permutation(TRAIN.labels))
    student = untrained(seed=1)
    train_network(student, shuffled, SPEC, teacher=Teacher(network=teacher, share=1.0))
    assert min(exit_accuracies(student, TEST)) > 0.9
    assert same(teacher, before)


def test_augmentation_moves_and_mirrors() -> None:
    """A single bright pixel lands at most `limit` away, everywhere in that range, and mirrored half of the time."""
    images = torch.zeros((400, 1, 9, 9), dtype=torch.uint8)
    images[:, 0, 4, 2] = 255
    with seeded(0):
        rows, columns = fitting._augmented(images, 1, False)[:, 0].nonzero(as_tuple=True)[1:]
    assert sorted(set(rows.tolist())) == [3, 4, 5]
    assert sorted(set(columns.tolist())) == [1, 2, 3]
    with seeded(0):
        columns = fitting._augmented(images, 0, True)[:, 0].nonzero(as_tuple=True)[2]
    assert sorted(set(columns.tolist())) == [2, 6]
    assert 150 < (columns == 6).sum() < 250


def test_logits_do_not_depend_on_the_batch() -> None:
    """Logits of many pictures are those of each alone, [E, N, C]."""
    network = untrained()
    logits = exit_logits(network, np.concatenate([TEST.images] * 3))
    assert logits.shape == (2, 270, 3)
    with one_thread(), torch.no_grad():
        alone = [branch.numpy()[0] for branch in network(torch.from_numpy(TEST.images[7]))]
    np.testing.assert_allclose(logits[:, 7], alone, rtol=1e-4, atol=1e-5)


def test_impossible_training_is_refused() -> None:
    """Too few examples for a batch, other than one weight per exit, a teacher without warmth."""
    with pytest.raises(InvalidConfig, match="do not fill one batch"):
        train_network(untrained(), stripes(19, 0), SPEC)
    with pytest.raises(InvalidConfig, match="3 exit weights for 2 exits"):
        train_network(untrained(), TRAIN, SPEC, exit_weights=[1.0, 1.0, 1.0])
    with pytest.raises(InvalidConfig, match="temperature"):
        Teacher(network=untrained(), temperature=0.0)
