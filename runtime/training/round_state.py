"""One round of federated training as a state machine: which updates count, and when it is over.

            quorum met at the deadline, or all heard          take()
    open ─────────────────────────────────────────► closed ─────────► taken
      └───── deadline without quorum ─────► failed

An update is accepted at most once, and only while the round is open; accepted updates leave at most once.
Whatever is refused has one typed reason and is counted.  Time comes in with the calls.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import msgspec
import numpy as np

from runtime.errors import InvalidConfig, InvalidInput
from runtime.messages import UpdateHeader
from runtime.training.update import FLOAT32, Defect, Update, find_defect, has_sound_metrics

Phase = Literal["open", "closed", "failed", "taken"]

Refusal = Literal["unknown_client", "stale_round", "future_round", "duplicate", "late", "too_many_examples", "bad_metrics"] | Defect
"""Why an update was not accepted; the first that applies, in this order, then the array's defects.

`late`: after the round ended.  `too_many_examples`: it claims more examples than the round allows.  `bad_metrics`: what it says
that it measured cannot have been measured, or it does not say its loss.
"""

MASKED_DTYPE = np.dtype(np.uint32)

REFUSALS: tuple[Refusal, ...] = tuple(reason for part in get_args(Refusal) for reason in get_args(part))


class RoundConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one round expects."""

    round: int
    clients: tuple[str, ...]
    """The sampled clients; nobody else is heard."""
    num_parameters: int
    quorum: int
    """Updates without which the round fails at its deadline."""
    deadline_at_s: float
    """On the clock whose time the calls pass in."""
    max_examples: int | None = None
    """Examples that one client may claim. None: any."""
    masked: bool = False
    """Updates are uint32, of secure aggregation."""

    def __post_init__(self) -> None:
        if len(set(self.clients)) != len(self.clients):
            raise InvalidConfig(f"clients of a round must differ, got {self.clients}")
        if not 1 <= self.quorum <= len(self.clients):
            raise InvalidConfig(f"quorum must be in 1..{len(self.clients)} (the sampled clients), got {self.quorum}")
        if self.round < 0 or self.num_parameters < 0 or not math.isfinite(self.deadline_at_s):
            raise InvalidConfig(
                "a round needs round >= 0, num_parameters >= 0 and a finite deadline, "
                f"got {self.round}, {self.num_parameters}, {self.deadline_at_s}"
            )


class RoundState:
    """Accepts or refuses updates and knows when to stop.  The owner calls `poll` when time passes."""

    def __init__(self, config: RoundConfig) -> None:
        self.config = config
        self.phase: Phase = "open"
        self.num_refused: dict[Refusal, int] = dict.fromkeys(REFUSALS, 0)
        self._accepted: dict[str, Update] = {}
        self._heard: set[str] = set()

    def offer(self, update: Update, now_s: float) -> Refusal | None:
        """Accept this update (None), or refuse and count it.  The last client that was waited for closes the round."""
        self.poll(now_s)
        reason = self.reason_against(update.header, now_s) or self._reason_within(update)
        if reason is not None:
            self.refuse(reason)
            return reason
        self._accepted[update.header.client] = update
        self._heard.add(update.header.client)
        self._close_when_all_heard()
        return None

    def reason_against(self, header: UpdateHeader, now_s: float) -> Refusal | None:
        """Why an update with this header that comes now will be refused, whatever is in it; None: read it."""
        config = self.config
        if header.client not in config.clients:
            return "unknown_client"
        if header.round != config.round:
            return "stale_round" if header.round < config.round else "future_round"
        if header.client in self._accepted:
            return "duplicate"
        if now_s >= config.deadline_at_s or not self.is_waiting_for(header.client):
            return "late"
        if config.max_examples is not None and header.num_examples > config.max_examples:
            return "too_many_examples"
        return None

    def refuse(self, reason: Refusal) -> None:
        """Count an update that the owner refuses without offering it."""
        self.num_refused[reason] += 1

    def give_up_on(self, client: str, now_s: float) -> None:
        """This client is known to be lost, or said it will not answer: do not wait for it.  Its update is refused from now on.

        From the deadline on nobody is waited for, and this changes nothing: to end the round then is `poll`'s business.
        """
        if now_s < self.config.deadline_at_s and self.is_waiting_for(client):
            self._heard.add(client)
            self._close_when_all_heard()

    def poll(self, now_s: float) -> Phase:
        """The phase at this time; the deadline's own instant is too late."""
        if self.phase == "open" and now_s >= self.config.deadline_at_s:
            self._end()
        return self.phase

    def stragglers(self) -> tuple[str, ...]:
        """Sampled clients without an accepted update, in the order of sampling."""
        return tuple(client for client in self.config.clients if client not in self._accepted)

    def is_waiting_for(self, client: str) -> bool:
        """Whether its update may still count: it has sent none, and has not been given up."""
        return self.phase == "open" and client in self.config.clients and client not in self._heard

    def num_accepted(self) -> int:
        """Updates that count."""
        return len(self._accepted)

    def take(self) -> tuple[Update, ...]:
        """The accepted updates by client name, once.  Raises InvalidInput unless the round is closed and not taken yet."""
        if self.phase != "closed":
            raise InvalidInput(f"updates are taken once, from a closed round; round {self.config.round} is {self.phase}")
        self.phase = "taken"
        return tuple(self._accepted[client] for client in sorted(self._accepted))

    def _reason_within(self, update: Update) -> Refusal | None:
        if not has_sound_metrics(update.header.metrics):
            return "bad_metrics"
        return find_defect(update.delta, self.config.num_parameters, MASKED_DTYPE if self.config.masked else FLOAT32)

    def _close_when_all_heard(self) -> None:
        if len(self._heard) == len(self.config.clients):
            self._end()

    def _end(self) -> None:
        self.phase = "closed" if len(self._accepted) >= self.config.quorum else "failed"
