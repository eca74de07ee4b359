"""The line between a decision and the queue: requests and measurements whose pieces are not in memory yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from runtime.messages import Decision
from runtime.models.pieces import Piece, pieces_of
from runtime.protocol.events import Instruction, RunMeasure
from runtime.protocol.fetching import Trouble
from runtime.protocol.hosted_models import HostedModels
from runtime.protocol.identity import Identity
from runtime.protocol.loading import Ended, Loading, Waiting
from runtime.protocol.measurements import Measurements
from runtime.protocol.scheduler import Scheduler
from runtime.protocol.task import Task


class ModelLine:
    """Says who needs which pieces; `loading` does the rest.  Nobody waits where it is None: everything is in memory for good."""

    def __init__(
        self, loading: Loading | None, identity: Identity, models: HostedModels, scheduler: Scheduler, measurements: Measurements
    ) -> None:
        self._loading, self._identity, self._models = loading, identity, models
        self._scheduler, self._measurements = scheduler, measurements

    def enter(self, task: Task, decision: Decision, at_s: float) -> Literal["ready", "waits"] | Trouble:
        """Whether a request's pieces are there; they then stay until it is computed.  A trouble: they can never be, or too many wait."""
        if self._loading is None:
            return "ready"
        pieces = pieces_of(self._models.of(decision), decision, self._identity.tier)
        if self._loading.ready(pieces):
            task.pieces = pieces
            return "ready"
        if self._loading.num_waiting >= self._identity.max_waiting:
            return Trouble(reason="overload", message=f"{self._loading.num_waiting} wait for models to be loaded")
        task.wanted_at_s = at_s
        return self._loading.wait(task, pieces) or "waits"

    @property
    def num_waiting(self) -> int:
        """Who is in line."""
        return self._loading.num_waiting if self._loading is not None else 0

    def step(self, tasks: Mapping[int, Task]) -> tuple[list[Instruction], list[Ended]]:
        """Let in whom there is room for; who leaves the line, and why.  `tasks` are alive."""
        if self._loading is None:
            return [], []

        def is_alive(token: Waiting) -> bool:
            return isinstance(token, RunMeasure) or tasks.get(token.request_id) is token

        return self._loading.step(is_alive, lambda: self._in_use(tasks)), self._loading.take_ended()

    def begin_anew(self) -> list[Instruction]:
        """A new episode: nobody waits, and what earlier ones had loaded is unloaded; all requests and measurements have been forgotten."""
        return self._loading.begin_anew(self._in_use({})) if self._loading is not None else []

    def _in_use(self, tasks: Mapping[int, Task]) -> set[Piece]:
        """What accepted work still needs, and what runs for requests that have ended meanwhile."""
        needed = {piece for task in tasks.values() for piece in task.pieces}
        return needed | self._measurements.pieces | set(self._scheduler.running_pieces)
