"""What a round makes of the updates that come: each counts once or is counted once, and what came in time is not lost by what came late."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from runtime.messages import Contribution, Declined, Join, RoundRecord, UpdateHeader
from runtime.protocol.events import Received
from runtime.training.exchange import Exchange
from runtime.training.protocol.rounds import Rounds
from runtime.training.protocol.tasks import Decode, GossipDone, LocalDone, TrainerResult, TrainerTask
from tests.runtime.training.protocol.world import SIZE, Node, flat_world, job

ROUND, BEGAN_S, DEADLINE_S = 7, 100.0, 105.0
UPDATE = (1.0, 2.0, 3.0)


class Root:
    """Rounds of clients a and b at a root, with a round open; what is to be read is read when the test says so."""

    def __init__(self, *, compare: bool = False) -> None:
        given = job()
        self.rounds, self.exchange = Rounds(given, ("a", "b"), SIZE, Node(flat_world(given), "cloud", "")), Exchange(given, SIZE, SIZE, 1)
        for name in ("a", "b"):
            self.rounds.join(Join(job="j", client=name, num_examples=10), name.encode(), BEGAN_S - 1.0)
        self.rounds.open(ROUND, np.zeros(SIZE, dtype=np.float32), 1, BEGAN_S, compare=compare)

    def hear(
        self, client: str, at_s: float, round_: int = ROUND, estimate: tuple[float, float] | None = None, **metrics: float
    ) -> Decode | None:
        """A contribution comes; what is to be read of it, if it is."""
        gradient = np.ones(SIZE, dtype=np.float32) if estimate is not None else None
        written = self.exchange.write(np.array(UPDATE, dtype=np.float32), gradient, number=1, sent_round=-1)
        header = UpdateHeader(client=client, round=round_, num_examples=10, metrics={"loss": 1.0} | metrics)
        message = Contribution(
            request_id=1, job="j", header=header, compressor="identity", parameters=written.parameters, estimate=estimate
        )
        event = Received(source="down", message=message, parcel=written.parcel, num_bytes=100, at_s=at_s, peer=client.encode())
        tasks = [one for one in self.rounds.on_contribution(event, message) if isinstance(one, Decode)]
        return tasks[0] if tasks else None

    def read(self, task: Decode | None) -> None:
        assert task is not None
        self.rounds.on_decoded(self.exchange.read(task))


def test_a_copy_that_comes_while_the_first_is_read_is_a_duplicate() -> None:
    """The update that was read counts, as it is, and the copy is counted."""
    root = Root()
    first = root.hear("a", 101.0)
    assert root.hear("a", 101.1) is None
    root.read(first)
    root.read(root.hear("b", 101.5))
    collected = root.rounds.take(102.0)
    assert [(update.header.client, tuple(update.delta)) for update in collected.updates] == [("a", UPDATE), ("b", UPDATE)]
    assert (collected.refused, collected.missing) == ({"duplicate": 1}, ())


def test_a_copy_of_what_was_accepted_is_not_even_read() -> None:
    """And leaves the time at which the update was heard as it was: 1 s on the links."""
    root = Root()
    root.read(root.hear("a", 102.0, dwell_s=1.0))
    assert root.hear("a", 104.0, dwell_s=1.0) is None
    root.rounds.poll(DEADLINE_S)
    collected = root.rounds.take(DEADLINE_S)
    assert (collected.refused, collected.transfer_s) == ({"duplicate": 1}, pytest.approx(1.0))


@pytest.mark.parametrize("late", ["update", "refusal"])
def test_what_came_in_time_is_not_lost_by_what_comes_late(late: str) -> None:
    """Read after the deadline, while another client's answer came after it too: that one alone does not count."""
    root = Root()
    in_time = root.hear("a", 104.9)
    if late == "update":
        assert root.hear("b", 105.05) is None
    else:
        root.rounds.on_declined(Declined(job="j", client="b", round=ROUND, message=""), 105.05)
    root.rounds.poll(105.1)
    assert root.rounds.phase == "open"
    root.read(in_time)
    root.rounds.poll(105.2)
    assert root.rounds.phase == "closed"
    collected = root.rounds.take(105.2)
    assert (collected.clients, collected.missing) == (("a",), ("b",))
    assert collected.refused == ({"late": 1} if late == "update" else {})


def test_nothing_is_due_while_an_update_is_read() -> None:
    """The deadline has passed and the round cannot end yet: whoever asks for the next tick is not told a time in the past."""
    root = Root()
    assert root.rounds.deadline_at_s == DEADLINE_S
    task = root.hear("a", 104.9)
    root.rounds.poll(106.0)
    assert root.rounds.deadline_at_s == math.inf
    root.read(task)
    assert root.rounds.deadline_at_s == DEADLINE_S
    root.rounds.poll(106.0)
    assert root.rounds.phase == "closed"


BAD = [math.nan, math.inf, -math.inf, -1.0, 1e300]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["compute_s", "dwell_s", "transfer_s", "joules", "raw_bytes", "uplink_up_bytes"])
def test_an_update_that_measured_the_impossible_is_refused(name: str, value: float) -> None:
    """It is counted, nobody waits for that client any more, and the round's numbers are the other's."""
    root = Root()
    root.read(root.hear("a", 101.0, **{name: value}))
    root.read(root.hear("b", 102.0, compute_s=0.5, dwell_s=0.75))
    assert root.rounds.phase == "closed"
    collected = root.rounds.take(102.0)
    assert (collected.clients, collected.refused, collected.compute_s) == (("b",), {"bad_metrics": 1}, 0.5)
    assert collected.transfer_s == pytest.approx(1.25)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e300])
def test_a_loss_that_is_none_is_refused(loss: float) -> None:
    """One that is not finite would be written as null, and the records would never be read again.  Below 0 it may be."""
    root = Root()
    root.read(root.hear("a", 101.0, loss=loss))
    root.read(root.hear("b", 102.0, loss=-0.25))
    collected = root.rounds.take(102.0)
    assert (collected.clients, collected.refused, collected.loss) == (("b",), {"bad_metrics": 1}, -0.25)


@pytest.mark.parametrize("estimate", [(math.nan, 1.0), (1.0, math.inf), (-5.0, 1.0)])
def test_an_impossible_loss_surface_is_refused_where_it_is_asked_for(estimate: tuple[float, float]) -> None:
    """Nobody computes tau from it; the other client's is there."""
    root = Root(compare=True)
    root.read(root.hear("a", 101.0, estimate=estimate))
    root.read(root.hear("b", 102.0, estimate=(2.0, 3.0)))
    collected = root.rounds.take(102.0)
    assert (collected.clients, collected.refused) == (("b",), {"bad_metrics": 1})
    assert [(one.lipschitz, one.smoothness) for one in collected.estimates] == [(2.0, 3.0)]


def test_a_loss_surface_that_nobody_asked_for_is_ignored() -> None:
    """The update counts, and a job of fixed tau does not take its round for diverged."""
    root = Root()
    for client in ("a", "b"):
        root.read(root.hear(client, 101.0, estimate=(math.nan, 1.0)))
    collected = root.rounds.take(102.0)
    assert (collected.clients, collected.estimates, collected.gradients, collected.refused) == (("a", "b"), (), (), {})


def test_a_client_without_examples_has_no_place() -> None:
    """It can send no update, and masks would be scaled by its examples."""
    given = job()
    rounds = Rounds(given, ("a", "b"), SIZE, Node(flat_world(given), "cloud", ""))
    for name, num_examples in (("a", 0), ("b", 10)):
        rounds.join(Join(job="j", client=name, num_examples=num_examples), name.encode(), 0.0)
    assert rounds.joined == ("b",)


@pytest.mark.parametrize("architecture", ["federated", "gossip", "local"])
@pytest.mark.parametrize("value", BAD)
def test_a_job_survives_a_client_whose_clock_is_mad(architecture: str, value: float) -> None:
    """The node above goes on with the other client, to the last round, and its records can be written down and read."""
    world = flat_world(job(architecture=architecture, rounds=2, round_deadline_s=1.0))
    node = world.nodes["device-1"]
    compute = node.compute

    def mad(task: TrainerTask) -> object:
        done = compute(task)
        return msgspec.structs.replace(done, compute_s=value) if isinstance(done, LocalDone | GossipDone) else done

    node.compute = mad  # type: ignore[method-assign,assignment]
    world.start()
    report = world.run()
    assert (report.phase, [record.clients for record in report.records]) == ("done", 2 * [("device-0",)])
    assert msgspec.json.decode(msgspec.json.encode(report.records), type=tuple[RoundRecord, ...]) == report.records
    if architecture != "federated":
        assert [record.refused for record in report.records] == 2 * [{"unreadable": 1}]
        assert report.records[-1].at_s < 1.0  # its answer is there, and nobody waits for the deadline


@pytest.mark.parametrize("architecture", ["gossip", "local"])
def test_a_job_without_a_server_fails_where_nobody_tells_numbers(architecture: str) -> None:
    """All have diverged: there is nothing to record, and the job does not go on for ever."""
    world = flat_world(job(architecture=architecture, rounds=2, round_deadline_s=1.0))
    for name in ("device-0", "device-1"):
        node = world.nodes[name]

        def diverge(task: TrainerTask, compute: Callable[[TrainerTask], TrainerResult | None] = node.compute) -> TrainerResult | None:
            done = compute(task)
            nan = np.full(SIZE, np.nan, dtype=np.float32)
            return msgspec.structs.replace(done, vector=nan) if isinstance(done, GossipDone) else done

        node.compute = diverge  # type: ignore[method-assign]
    world.start()
    report = world.run()
    assert (report.phase, report.records) == ("failed", ())
    assert "round 1 are no numbers" in report.message
