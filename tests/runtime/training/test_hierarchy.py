"""The schedule of HierFAVG, and its averages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig, InvalidInput
from runtime.training.aggregation.means import WeightedMean
from runtime.training.hierarchy import HierarchySchedule, average_in_two_levels, edge_update
from tests.runtime.training.updates import updates_of


def test_the_schedule_by_hand() -> None:
    """tau1 = 2, tau2 = 3: edges after every second step, the cloud after the sixth."""
    schedule = HierarchySchedule(steps_per_edge_round=2, edge_rounds_per_cloud_round=3)
    levels = [schedule.level_after(step) for step in range(1, 13)]
    assert levels == ["local", "edge", "local", "edge", "local", "cloud"] * 2


def test_one_edge_round_is_federated_averaging() -> None:
    """With tau2 = 1 every average goes up to the cloud."""
    schedule = HierarchySchedule(steps_per_edge_round=3, edge_rounds_per_cloud_round=1)
    assert [schedule.level_after(step) for step in range(1, 7)] == ["local", "local", "cloud"] * 2


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 1000)), min_size=1, max_size=10), st.integers(0, 1000))
def test_two_levels_equal_one(clients: list[tuple[int, int]], seed: int) -> None:
    """However clients are spread over edges, weighing edges by their clients' examples gives the flat mean."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=4).astype(np.float32)
    updates = updates_of(rng.normal(size=(len(clients), 4)).astype(np.float32), [count for _, count in clients])
    groups = {f"edge-{edge}": [u for u, (of, _) in zip(updates, clients, strict=True) if of == edge] for edge in {of for of, _ in clients}}
    flat = weights + WeightedMean().combine(updates)
    np.testing.assert_allclose(average_in_two_levels(weights, groups), flat, rtol=1e-5, atol=1e-5)


def test_unweighted_edges_would_not_be_flat() -> None:
    """Why examples are summed: one client against three, by hand (0 3 + 4 1) / 4 = 1."""
    updates = updates_of(np.array([[0.0], [0.0], [0.0], [4.0]], np.float32))
    np.testing.assert_allclose(average_in_two_levels(np.zeros(1, np.float32), {"x": updates[:3], "y": updates[3:]}), [1.0])


def test_an_edge_reports_for_all_its_clients() -> None:
    """Examples add up, steps are the most that a client made, the delta is against the cloud."""
    updates = updates_of(np.zeros((2, 1), np.float32), [10, 30])
    update = edge_update("edge-1", np.float32([1.0]), np.float32([4.0]), [u.header for u in updates])
    assert (update.header.client, update.header.num_examples, float(update.delta[0])) == ("edge-1", 40, 3.0)
    with pytest.raises(InvalidInput, match="heard no client"):
        edge_update("edge-1", np.float32([1.0]), np.float32([4.0]), [])


def test_impossible_schedules_are_refused() -> None:
    """Zero steps never average."""
    with pytest.raises(InvalidConfig):
        HierarchySchedule(steps_per_edge_round=0, edge_rounds_per_cloud_round=1)
    with pytest.raises(InvalidInput):
        HierarchySchedule(steps_per_edge_round=1, edge_rounds_per_cloud_round=1).level_after(0)
