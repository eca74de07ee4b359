"""A node in virtual time: its state machine, and what its instructions take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from envs.simulation.events.clock import Clock
from envs.simulation.events.library import Library
from envs.simulation.events.looks import Looks, Pictures
from envs.simulation.events.wires import NO_PARCEL, Letter, Said
from envs.simulation.events.work import Worker
from runtime.codec import unseal
from runtime.codecs.parcel import Parcel
from runtime.errors import SystemFailure
from runtime.messages import Message
from runtime.protocol.events import (
    DropHeld,
    Event,
    Inspect,
    Instruction,
    KeepFile,
    Load,
    ReadPart,
    Received,
    Run,
    RunBatch,
    Send,
    Source,
    Tick,
    Unload,
    UseController,
)
from runtime.protocol.node_machine import NodeMachine

Hear = Callable[[Message], None]
"""Somebody outside: a client or a controller."""


class Route(NamedTuple):
    """Where a message goes: the node, and whom it seems to come from there."""

    host: Host
    source: Source
    peer: bytes


class Host:
    """Performs a machine's instructions in virtual time, as runtime/node.py does in real time."""

    def __init__(self, clock: Clock, machine: NodeMachine, worker: Worker, looks: Looks, pictures: Pictures, hear: Hear) -> None:
        """`hear` gets what is sent to nobody's node."""
        self.machine = machine
        self.routes: dict[tuple[Source, bytes], Route] = {}
        self.library: Library | None = None
        """Where pieces of models come and go."""
        self._clock, self._worker, self._looks, self._pictures, self._hear = clock, worker, looks, pictures, hear
        self._tick_s = -np.inf

    def begin(self, memory_bytes: int) -> None:
        """Its process starts now; before that nothing is due here, whoever has written."""
        self._tick_s = np.inf
        self.handle(Tick(at_s=self._clock.now_s, memory_bytes=memory_bytes))

    def receive(self, source: Source, peer: bytes, message: Message, parcel: Parcel = NO_PARCEL, num_bytes: int = 0) -> None:
        """A message has come."""
        self.handle(Received(source=source, message=message, parcel=parcel, num_bytes=num_bytes, at_s=self._clock.now_s, peer=peer))

    def handle(self, event: Event) -> None:
        """An event, now."""
        for instruction in self.machine.handle(event):
            self._perform(instruction)
        due_s = self.machine.next_tick_at_s
        if due_s < self._tick_s:
            self._tick_s = due_s
            self._clock.at(due_s, self._tick, due_s)

    def _tick(self, due_s: float) -> None:
        """The machine may have nothing to do any more by then."""
        if due_s != self._tick_s:
            return
        self._tick_s = np.inf
        if self.machine.next_tick_at_s <= self._clock.now_s:
            self.handle(Tick(at_s=self._clock.now_s))
        else:
            self._tick_s = self.machine.next_tick_at_s
            self._clock.at(self._tick_s, self._tick, self._tick_s)

    def _perform(self, instruction: Instruction) -> None:
        now_s = self._clock.now_s
        match instruction:
            case Letter():
                self._deliver(instruction)
            case Run():
                self._later(self._worker.compute(instruction, now_s))
            case Said(message=message):
                self._hear(message)
            case Send():
                self._speak(instruction)
            case RunBatch():
                self._later(self._worker.compute_batch(instruction, now_s))
            case Inspect():
                self._later(self._looks.inspect(instruction, self._pictures, now_s))
            case Load() | Unload() | KeepFile() | ReadPart() if self.library is not None:
                self.library.perform(instruction)
            case UseController() | DropHeld():
                pass  # whoever it is, this episode's client hears; and nothing was held before it
            case _:
                raise SystemFailure(f"simulated nodes cannot do this: {type(instruction).__name__}")

    def _later(self, event: Event) -> None:
        self._clock.at(event.at_s, self.handle, event)

    def _speak(self, send: Send) -> None:
        """What is written out is short and rare: that an episode has started."""
        message = unseal(send.frames)[0]
        route = self.routes.get((send.target, send.peer))
        if route is None:
            self._hear(message)
        else:
            self._clock.at(self._clock.now_s, route.host.receive, route.source, route.peer, message)

    def _deliver(self, letter: Letter) -> None:
        route = self.routes.get((letter.target, letter.peer))
        if route is not None:
            self._clock.at(
                max(letter.release_at_s, self._clock.now_s),
                route.host.receive, route.source, route.peer, letter.message, letter.parcel, letter.num_bytes,
            )  # fmt: skip
