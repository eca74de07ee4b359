"""A device whose client and controller are in this process: what it says is not written out, and answers are read once."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.simulation.events.wires import Said
from runtime.codecs.parcel import Parcel
from runtime.messages import Observation, Outcome
from runtime.protocol.device_machine import DeviceMachine
from runtime.protocol.events import Send
from runtime.protocol.task import DeviceTask


class VirtualDevice(DeviceMachine):
    """A DeviceMachine whose answers are a few parcels that come again and again (work.py, KnownAnswers)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._outputs: dict[int, tuple[Parcel, np.ndarray | None]] = {}
        self._meanings: dict[int, tuple[np.ndarray, tuple[int, float]]] = {}

    def _output(self, task: DeviceTask, logits: Parcel, exit: int) -> np.ndarray | None:
        known = self._outputs.get(id(logits))  # what is kept beside keeps the id its own
        if known is None:
            known = self._outputs[id(logits)] = logits, super()._output(task, logits, exit)
        return known[1]

    def _meaning(self, logits: np.ndarray) -> tuple[int, float]:
        known = self._meanings.get(id(logits))
        if known is None:
            known = self._meanings[id(logits)] = logits, super()._meaning(logits)
        return known[1]

    def _to_client(self, peer: bytes, outcome: Outcome, output: tuple[np.ndarray, ...] = ()) -> Send:
        return Said(target="down", peer=peer, frames=[], message=outcome)

    def _to_controller(self, observation: Observation) -> Send:
        return Said(target="controller", frames=[], request_id=observation.request_id, message=observation)
