"""Who starts a job on a node, and who is told what came of it."""

from __future__ import annotations

from runtime.codecs.parcel import Parcel
from runtime.messages import FitStart, FitStop, Message
from runtime.protocol.events import Received
from runtime.training.protocol.tasks import Forget, Prepare, Prepared
from tests.runtime.training.protocol.world import World, flat_world, job


def received(message: Message) -> Received:
    return Received(source="down", peer=b"user", message=message, parcel=Parcel(), num_bytes=0, at_s=0.0)


def test_what_was_prepared_for_a_stopped_start_is_no_answer_to_the_next_one() -> None:
    """Of the same name: the first is refused when it is stopped, the second hears of its own network only."""
    world: World = flat_world(job())
    node = world.nodes["device-0"]
    part, told = node.part, []
    for request_id in (1, 2):
        out = part.on_message(received(FitStart(request_id=request_id, job=world.job, role="client", client=0)))
        (task,) = [item for item in out if isinstance(item, Prepare)]
        told.append(task.number)
        if request_id == 1:
            stopped = part.on_message(received(FitStop(request_id=9, job=world.job.name)))
            assert any(isinstance(item, Forget) for item in stopped)
            assert len(stopped) == 3  # whoever asked for the start is told too
    assert told[0] != told[1]
    assert part.on_done(Prepared(job=world.job.name, number=told[0], error="no such network"), 0.0) == []
    assert part.job == world.job.name
    assert part.on_done(Prepared(job=world.job.name, number=told[1], num_examples=3, num_parameters=2), 0.0) != []
