"""What a compressor remembers is of what has left: updates that nobody was sent leave nothing behind, at clients and at edges."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from runtime.codecs.parcel import Parcel, pack
from runtime.messages import Contribution, FitJob, Join, Message, Round, UpdateHeader
from runtime.protocol.events import Instruction, Received
from runtime.training.exchange import Exchange, Written
from runtime.training.protocol.aggregator import EdgeAggregator
from runtime.training.protocol.client import Client
from runtime.training.protocol.tasks import Aggregate, Aggregated, CancelLocal, Decode, Decoded, LocalDone, LocalSteps, Prepare, Prepared
from runtime.training.trainer import Trainer, exchange_seed
from runtime.training.update import Update
from tests.runtime.training.protocol.wires import make_job
from tests.runtime.training.protocol.world import flat_world, job

Task = TypeVar("Task", LocalSteps, Aggregate)
WEIGHTS = pack([np.zeros(3, dtype=np.float32)])


def received(message: Message, at_s: float, parcel: Parcel = WEIGHTS, source: str = "up") -> Received:
    """As it comes from a link."""
    return Received(source=source, message=message, parcel=parcel, num_bytes=9, at_s=at_s, peer=b"peer")  # type: ignore[arg-type]


def begin(number: int, name: str) -> Round:
    """A round of five seconds."""
    return Round(request_id=number, job="j", client=name, round=number, tau=1, reply_within_s=5.0)


def the_task(kind: type[Task], instructions: list[Instruction]) -> Task:
    """The only one of its kind."""
    (task,) = (one for one in instructions if isinstance(one, kind))
    return task


def read(exchange: Exchange, written: Written) -> np.ndarray:
    """What the receiver makes of it."""
    header = UpdateHeader(client="a", round=1, num_examples=1)
    contribution = Contribution(request_id=1, job="j", header=header, compressor="topk1+ef", parameters=written.parameters)
    update = exchange.read(Decode(contribution=contribution, parcel=written.parcel)).update
    assert update is not None
    return update.delta


def local_done(number: int) -> LocalDone:
    """What a trainer answers."""
    return LocalDone(job="j", round=number, header=UpdateHeader(client="device-0", round=number, num_examples=1))


def test_the_error_of_an_update_that_stayed_is_not_remembered() -> None:
    """One of three values is sent: 4 of (4, 3, 0); 3 + 3 of a round that was over by then; so 3 is still to be sent beside (0, 0, 1)."""
    exchange = Exchange(job(compressor="topk1+ef"), 3, 3, 1)
    first = exchange.write(np.array([4, 3, 0], np.float32), None, number=1, sent_round=-1)
    second = exchange.write(np.array([0, 3, 0], np.float32), None, number=2, sent_round=1)
    third = exchange.write(np.array([0, 0, 1], np.float32), None, number=3, sent_round=1)
    fourth = exchange.write(np.array([0, 0, 0], np.float32), None, number=4, sent_round=3)
    assert [read(exchange, one).tolist() for one in (first, second, third, fourth)] == [[4, 0, 0], [0, 6, 0], [0, 3, 0], [0, 0, 1]]


@pytest.mark.parametrize("newer_round", [True, False])
def test_a_client_says_which_update_left(newer_round: bool) -> None:
    """The second is done after its deadline, or after a newer round came: nobody is sent it, and the next steps are told the first."""
    world = flat_world(job(compressor="topk1+ef"))
    client = Client(world.job, Prepared(job="j", num_examples=1, num_parameters=3), world.nodes["device-0"])
    assert the_task(LocalSteps, client.on_message(received(begin(1, "device-0"), 0.0))).sent_round == -1
    assert client.on_done(local_done(1), 1.0)
    assert the_task(LocalSteps, client.on_message(received(begin(2, "device-0"), 2.0))).sent_round == 1
    if not newer_round:
        assert client.tick(7.1) == [CancelLocal(round=2)]
    else:
        assert the_task(LocalSteps, client.on_message(received(begin(3, "device-0"), 3.0))).sent_round == 1
    assert client.on_done(local_done(2), 7.2) == []
    assert the_task(LocalSteps, client.on_message(received(begin(4, "device-0"), 8.0))).sent_round == 1


def test_an_edge_says_which_update_left() -> None:
    """The second cloud round's average comes once a third has begun."""
    world = flat_world(job(architecture="hierarchical", compressor="topk1+ef"))
    edge = EdgeAggregator(world.job, ("device-0",), Prepared(job="j", num_parameters=3), world.nodes["edge-0"])
    edge.on_message(received(Join(job="j", client="device-0", num_examples=1), 0.0, source="down"))

    def average(number: int, at_s: float) -> Aggregate:
        edge.on_message(received(begin(number, "edge-0"), at_s))
        header = UpdateHeader(client="device-0", round=number << 20, num_examples=1, metrics={"loss": 1.0})
        sent = Contribution(request_id=1, job="j", header=header, compressor="topk1+ef", parameters=b"")
        edge.on_message(received(sent, at_s + 1, source="down"))
        update = Update(header=header, delta=np.ones(3, dtype=np.float32))
        return the_task(Aggregate, edge.on_done(Decoded(job="j", client="device-0", round=header.round, update=update), at_s + 1))

    def done(task: Aggregate) -> Aggregated:
        return Aggregated(job="j", weights=np.ones(3, dtype=np.float32), header=task.upwards)

    first = average(1, 0.0)
    assert edge.on_done(done(first), 2.0)
    second = average(2, 10.0)
    edge.on_message(received(begin(3, "edge-0"), 12.0))
    assert edge.on_done(done(second), 12.5) == []
    third = average(4, 20.0)
    assert [task.sent_round for task in (first, second, third)] == [-1, 1, 1]


def edge(given: FitJob, name: str) -> Trainer:
    """What an edge makes of the job."""
    return Trainer(Prepare(job=given, role="aggregator", node=name, client=-1, slowdown=1.0), lambda *_: None)


def sent_up(trainer: Trainer, number: int) -> list[bytes]:
    """Frames of what it sends of one device's update, the same for all edges."""
    size = trainer.prepared.num_parameters
    header = UpdateHeader(client="a", round=number, num_examples=1)
    update = Update(header=header, delta=np.random.default_rng(number).normal(size=size).astype(np.float32))
    base = np.zeros(size, dtype=np.float32)
    task = Aggregate(job="j", weights=base, updates=(update,), upwards=header, base=base, sent_round=number - 1)
    return [bytes(frame) for frame in trainer.aggregate(task).parcel.frames]


def test_an_edge_goes_on_with_its_memory_after_a_restart(tmp_path: Path) -> None:
    """Most of what its devices did waits for later rounds; the second update of an edge started again is what it would have been."""
    given = make_job("hierarchical", 2, compressor="topk10+ef", folder=str(tmp_path))

    undisturbed = edge(given, "edge")
    first = sent_up(undisturbed, 1)
    restarted = edge(given, "edge")
    assert sent_up(restarted, 2) == sent_up(undisturbed, 2) != first


def test_edges_draw_their_own_indices() -> None:
    """Of the same update two edges send other values, and a client of the same job others again."""
    given = make_job("hierarchical", 2, compressor="randomk10")
    assert len({tuple(sent_up(edge(given, name), 1)) for name in ("edge-0", "edge-1")}) == 2
    prepared = [
        Prepare(job=given, role="aggregator" if client < 0 else "client", node=name, client=client, slowdown=1.0)
        for name, client in (("edge-0", -1), ("edge-1", -1), ("device-0", 0), ("device-1", 1))
    ]
    assert len({exchange_seed(each) for each in prepared}) == 4
