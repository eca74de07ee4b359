"""A step's random numbers: decided by seed and number, and nobody else's are touched."""

from __future__ import annotations

import pytest
import torch

from runtime.models.fitting import seeded
from runtime.training.minibatches import step_seed
from runtime.training.step_randomness import step_randomness


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (0, 1), (7, 123456), (2**31, 5)])
def test_numbers_are_those_of_a_seeded_torch(seed: int, step: int) -> None:
    """Dropout, normal and integer draws are the ones that `torch.manual_seed` gives, on one thread."""

    def draw() -> list[torch.Tensor]:
        return [torch.nn.functional.dropout(torch.ones(50)), torch.randn(9), torch.randperm(20)]

    with step_randomness(seed, step):
        drawn = draw()
        assert torch.get_num_threads() == 1
    with seeded(step_seed(seed, step)):
        assert all(torch.equal(one, other) for one, other in zip(drawn, draw(), strict=True))


def test_the_callers_generator_goes_on_where_it_was() -> None:
    """Threads too, and after an error inside."""

    def draw_and_fail() -> None:
        torch.rand(100)
        raise ZeroDivisionError

    torch.manual_seed(3)
    threads, expected = torch.get_num_threads(), (torch.rand(4), torch.rand(4))
    torch.manual_seed(3)
    first = torch.rand(4)
    with pytest.raises(ZeroDivisionError), step_randomness(1, 2):
        draw_and_fail()
    assert torch.equal(torch.stack([first, torch.rand(4)]), torch.stack(expected))
    assert torch.get_num_threads() == threads
