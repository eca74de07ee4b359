"""What a client knows of its job, in a few messages and in a whole world."""

from __future__ import annotations

import math

import msgspec
import pytest

from runtime.messages import JobView, Message, Round, TauSpec
from runtime.training.protocol.job_sight import ClientSight
from runtime.training.protocol.tasks import StepsTaken
from tests.runtime.training.protocol.world import STEP_S, flat_world, job

FIRST = Round(request_id=1, job="j", client="device-0", round=1, tau=4, reply_within_s=5.0, num_rounds=0, loss=2.0)
SECOND = msgspec.structs.replace(FIRST, round=2, tau=8, num_rounds=1, loss=1.5, drift=0.3)


def test_a_round_brings_its_number_its_tau_and_the_loss() -> None:
    """By hand: before anything, in the first round, and in the one after."""
    sight = ClientSight()
    assert sight.view(0.0, 0) is None
    sight.begin(FIRST, 10.0)
    sight.advance(1, 3)
    expected = JobView(
        num_rounds=0, tau=4, num_steps=3, since_s=0.5, last_round_s=0.0, loss=2.0, loss_drop=0.0, outstanding_bytes=7, tau_due=True
    )  # fmt: skip
    assert sight.view(10.5, 7) == expected
    sight.begin(SECOND, 12.0)
    sight.advance(1, 4)  # news of a round that is over
    view = sight.view(12.0, 0)
    assert view is not None
    assert (view.num_rounds, view.tau, view.num_steps, view.last_round_s, view.loss_drop, view.drift) == (1, 8, 0, 2.0, 0.5, 0.3)


def test_a_tau_is_due_once_a_round() -> None:
    """Another attempt at the same round asks for none, nor does it hide what the round before brought."""
    sight = ClientSight()
    for message in (FIRST, SECOND):
        sight.begin(message, 0.0)
        sight.decide()
        view = sight.view(0.0, 0)
        assert view is not None
        assert not view.tau_due
    sight.begin(msgspec.structs.replace(SECOND, round=3), 1.0)
    again = sight.view(1.0, 0)
    assert again is not None
    assert (again.tau_due, again.loss_drop) == (False, 0.5)


def test_without_a_loss_nothing_is_seen() -> None:
    """A root that never evaluated says none."""
    sight = ClientSight()
    sight.begin(msgspec.structs.replace(FIRST, loss=None), 0.0)
    assert sight.view(1.0, 0) is None


@pytest.mark.parametrize("architecture", ["federated", "hierarchical"])
def test_news_travel_with_the_rounds(architecture: str) -> None:
    """In a world: a device sees as many rounds as there were when their weights land, what each is to do, and the loss they have."""
    world = flat_world(job(architecture=architecture, tau=TauSpec(rule="decided", tau=2), rounds=3))
    seen: list[JobView | None] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-1":
            world.at(world.now_s + STEP_S, lambda: seen.append(world.nodes[target].part.view(world.now_s)))
        return False

    world.lose = watch
    world.start()
    losses = [0.5, *(record.test_loss for record in world.run().records)]
    views = [view for view in seen if view is not None]
    assert [(view.num_rounds, view.tau) for view in views] == [(0, 2), (1, 2), (2, 2)]
    assert [view.loss for view in views] == losses[:3]
    assert [view.loss_drop for view in views] == pytest.approx([0.0, 0.5 - losses[1], losses[1] - losses[2]])  # type: ignore[operator]
    assert all(view.since_s == pytest.approx(STEP_S) for view in views)
    assert world.nodes["cloud"].part.view(world.now_s) is None  # no client, nothing beside


def test_where_no_tau_is_decided_the_loss_is_of_the_round_before() -> None:
    """Because nobody waits until the weights that go out are evaluated."""
    world = flat_world(job(tau=TauSpec(tau=2), rounds=3))
    told: list[float | None] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-1":
            told.append(message.loss)
        return False

    world.lose = watch
    world.start()
    first = world.run().records[0].test_loss
    assert told == [0.5, 0.5, first]


def test_news_of_steps_reach_the_client() -> None:
    """Those of its job, through its node's part."""
    world = flat_world(job(tau=TauSpec(tau=50), rounds=1))
    world.start()
    number = 1  # of the first attempt
    world.run(until_s=2.0)
    part = world.nodes["device-0"].part
    part.on_done(StepsTaken(job="j", round=number, num_steps=17), 2.0)
    part.on_done(StepsTaken(job="another", round=number, num_steps=30), 2.0)
    view = part.view(2.0)
    assert view is not None
    assert view.num_steps == 17


def test_a_loss_that_is_not_finite_is_not_told() -> None:
    """The root leaves it out, and what it last knew stands."""
    world = flat_world(job(rounds=3))
    world.test_loss = lambda weights: math.nan if world.trajectory else 1.0
    seen: list[float | None] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-0":
            seen.append(message.loss)
        return False

    world.lose = watch
    world.start()
    assert world.run().phase == "done"
    assert seen == [1.0, 1.0, 1.0]
