"""A network split between parties learns as the whole one does."""

from __future__ import annotations

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidDecision, InvalidModel, InvalidTensor
from runtime.training.split import Party, Transfer, chain_stages, loss_and_gradient, split_stages, split_step

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(6, 1, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 6)


def convolutions() -> nn.Sequential:
    """Six stages with batch normalisation and a change of shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2), nn.Flatten(), nn.Linear(18, 3)
        )


class Fork(nn.Module):
    """One tensor in, the way on and the way past out."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tanh(x), x


class Middle(nn.Module):
    """Works on one of two."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(x), past


class Join(nn.Module):
    """Two tensors in, logits out."""

    def forward(self, x: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        return (x + past)[:, :3]


@pytest.mark.parametrize("label_party", [0, -1])
@pytest.mark.parametrize("cuts", [cuts for count in (1, 2) for cuts in combinations(range(1, 6), count)])
def test_gradients_and_steps_are_the_whole_networks(cuts: tuple[int, ...], label_party: int) -> None:
    """At every cut and pair of cuts, with the labels at either end: loss, and weights after three steps."""
    whole = convolutions()
    pieces = split_stages(chain_stages(copy.deepcopy(whole)), cuts)
    parties = [Party(piece, _sgd([p for stage in piece for p in stage.parameters()])) for piece in pieces]
    optimiser = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        loss = functional.cross_entropy(whole(torch.tensor(INPUTS)), torch.tensor(LABELS))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        assert split_step(parties, (INPUTS,), LABELS, label_party)[0] == pytest.approx(loss.item(), abs=1e-5)
    split = [tensor for party in parties for stage in party.stages for tensor in stage.state_dict().values()]
    for expected, got in zip(whole.state_dict().values(), split, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2)])
def test_several_tensors_may_cross_a_cut(cuts: tuple[int, ...]) -> None:
    """A skip connection around the cut carries its gradient back too."""
    stages = [Fork(), Middle(), Join()]
    inputs = RNG.normal(size=(5, 4)).astype(np.float32)
    leaf = torch.tensor(inputs, requires_grad=True)
    logits = stages[2](*stages[1](*stages[0](leaf)))
    torch.autograd.backward(functional.cross_entropy(logits, torch.tensor(LABELS[:5])))
    parties = [Party(piece) for piece in split_stages(stages, cuts)]
    values: tuple[np.ndarray, ...] = (inputs,)
    for party in parties:
        values = party.forward(values)
    _, gradients = loss_and_gradient(values, LABELS[:5])
    for party in reversed(parties):
        gradients = party.backward(gradients)
    assert leaf.grad is not None
    np.testing.assert_allclose(gradients[0], leaf.grad.numpy(), atol=1e-6)


def test_messages_of_a_step_by_hand() -> None:
    """Cut behind the flattening, 6 x 18 floats up and down; labels with the first party add 6 x 3 logits each way."""
    up, down = Transfer(source=0, target=1, num_bytes=432), Transfer(source=1, target=0, num_bytes=432)
    for label_party, between in [
        (-1, []),
        (0, [Transfer(source=1, target=0, num_bytes=72), Transfer(source=0, target=1, num_bytes=72)]),
    ]:
        parties = [Party(piece) for piece in split_stages(chain_stages(convolutions()), (5,))]
        assert split_step(parties, (INPUTS,), LABELS, label_party)[1] == [up, *between, down]


@pytest.mark.parametrize("cuts", [(0,), (6,), (3, 3), (4, 2)])
def test_cuts_that_leave_a_party_without_stages_are_refused(cuts: tuple[int, ...]) -> None:
    """Cuts lie inside and rise."""
    with pytest.raises(InvalidDecision):
        split_stages(chain_stages(convolutions()), cuts)


def test_what_does_not_fit_is_refused() -> None:
    """Gradients without a forward pass, of another shape, not finite; a module without order; labels out of range."""
    party = Party(chain_stages(convolutions()))
    with pytest.raises(InvalidTensor):
        party.backward((np.zeros((6, 3), np.float32),))
    party.forward((INPUTS,))
    for bad in (np.zeros((6, 2), np.float32), np.full((6, 3), np.nan, np.float32)):
        with pytest.raises(InvalidTensor):
            party.backward((bad,))
    with pytest.raises(InvalidModel):
        chain_stages(nn.Linear(1, 1))
    with pytest.raises(InvalidTensor):
        loss_and_gradient((np.zeros((2, 3), np.float32),), np.array([0, 3]))
    with pytest.raises(InvalidDecision):
        split_step([party], (INPUTS,), LABELS, 1)


def _sgd(parameters: list[nn.Parameter]) -> torch.optim.SGD | None:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9) if parameters else None
