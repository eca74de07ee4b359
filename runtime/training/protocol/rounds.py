"""One round at a time among the clients below: weights go out, updates come in, until enough have come or time is up.

join ──► [joined] ──open──► [open] ──closed──► take ──► Collected
                              │ Contribution ─Ack─► Decode ─► Decoded ─► offered to the round
                              └─ deadline without quorum ──► failed
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel, pack
from runtime.messages import NUM_REQUEST_IDS, Ack, Contribution, Declined, FitJob, Join, Masking, Round
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.laid_base import LaidBase
from runtime.training.protocol.patience import Patience
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.tasks import Decode, Decoded
from runtime.training.round_state import RoundConfig, RoundState
from runtime.training.sampling import num_drawn, sample_uniformly
from runtime.training.tau import ClientEstimate
from runtime.training.update import Update

TRANSFER_BASE = NUM_REQUEST_IDS
"""Ids of training transfers start here; those of requests and probes never come near."""

RoundsPhase = Literal["idle", "open", "closed", "failed"]


def transfer_ids(start: int = TRANSFER_BASE) -> itertools.count[int]:
    """Ids of one node's training transfers."""
    return itertools.count(start)


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What clients are told of the weights that they are sent."""

    num_rounds: int = 0
    loss: float | None = None
    drift: float | None = None


NOTHING_NEW = News()


@dataclass(slots=True)
class Member:
    """A client that has joined."""

    peer: bytes = b""
    num_examples: int = 0
    sent_at_s: float = 0.0
    """When it was given the round that is open."""
    heard_at_s: float = 0.0
    """When its contribution to that round came; 0 before."""
    base_digest: str = ""
    """Of the base that it holds, as far as is known here."""
    patience: Patience = field(default_factory=Patience)
    """With its not having taken up the open round."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a round brought."""

    updates: tuple[Update, ...]
    sampled: float
    """Share of those who had joined that was drawn."""
    estimates: tuple[ClientEstimate, ...]
    gradients: tuple[np.ndarray, ...]
    clients: tuple[str, ...]
    missing: tuple[str, ...]
    refused: dict[str, int]
    loss: float
    compute_s: float
    """Of the client that was heard last: its local steps."""
    transfer_s: float
    """Of the same: on the links, all that it took beyond what it spent with the round."""
    lasted_s: float
    up_bytes: int
    down_bytes: int
    sums: dict[str, float]
    """Clients' metrics, summed over those that count."""


@dataclass(slots=True)
class _Open:
    state: RoundState
    opened_at_s: float
    tau: int
    compare: bool
    weights: np.ndarray
    news: News
    sampled: float
    up_bytes: int = 0
    down_bytes: int = 0
    decoding: set[str] = field(default_factory=set)
    estimates: dict[str, tuple[ClientEstimate, np.ndarray]] = field(default_factory=dict)
    unreadable: int = 0


class Rounds:
    """Rounds of one job at one aggregating node."""

    def __init__(self, job: FitJob, clients: Sequence[str], num_parameters: int, ports: Ports) -> None:
        self._job, self._expected, self._num_parameters, self._ports = job, tuple(clients), num_parameters, ports
        self._members: dict[str, Member] = {}
        self._open: _Open | None = None
        self._ids = transfer_ids()
        self._attempts = (0, 0)
        """(rounds that are done, attempts at the next)."""
        self.base: LaidBase | None = None
        """Goes out with a round to whoever does not hold it."""

    # ------------------------------------------------------------ who there is

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of those that have joined, in the order that the job names them."""
        return tuple(name for name in self._expected if name in self._members)

    @property
    def num_expected(self) -> int:
        """Clients that the job names here."""
        return len(self._expected)

    @property
    def complete(self) -> bool:
        """Whether all have joined."""
        return len(self._members) == len(self._expected)

    @property
    def num_examples(self) -> int:
        """Of those that have joined."""
        return sum(member.num_examples for member in self._members.values())

    @property
    def quorum(self) -> int:
        """Clients without which no round can succeed."""
        return self._quorum(self._num_drawn(len(self._expected)))

    def join(self, join: Join, peer: bytes, at_s: float) -> list[Instruction]:
        """A client is here and idle, for the first time or again; it is given the open round once more if it seems to be lost.

        One that has no examples can send no update, and has no place here.
        """
        if join.client not in self._expected or join.num_examples < 1:
            return []
        name, run = join.client, self._open
        member = self._members.setdefault(name, Member())
        is_other = member.peer != peer  # another process, which cannot know what the one before was told
        member.peer, member.num_examples, member.base_digest = peer, join.num_examples, join.base
        if run is None or at_s >= run.state.config.deadline_at_s or name in run.decoding or not run.state.is_waiting_for(name):
            return []
        if is_other:
            member.patience = Patience(at_s)
        elif not member.patience.try_again(at_s):
            return []
        return [self._hand_out(run, name, at_s)]

    # ------------------------------------------------------------ one round

    @property
    def phase(self) -> RoundsPhase:
        """`closed` until it is taken, `failed` until the next is opened."""
        if self._open is None:
            return "idle"
        phase = self._open.state.phase
        if phase in {"closed", "failed"} and self._open.decoding:
            return "open"  # what has come in time is still being read
        return phase if phase != "taken" else "idle"

    def open(
        self,
        number: int,
        weights: np.ndarray,
        tau: int,
        at_s: float,
        *,
        compare: bool = False,
        within_s: float = math.inf,
        news: News = NOTHING_NEW,
    ) -> list[Instruction]:
        """Draw clients and send them the weights float32 [P], with the news of them; at least a quorum has joined.

        The round ends after the job's `round_deadline_s`, or `within_s` when that is earlier.
        """
        attempt = self._count_attempt(news.num_rounds)
        # every node is told the seed, and a promise of privacy counts on others not knowing who is drawn
        rng = np.random.default_rng([self._job.seed, news.num_rounds, attempt] if self._job.privacy is None else None)
        drawn = sample_uniformly(self.joined, min(self._num_drawn(len(self._expected)), len(self._members)), rng)
        config = RoundConfig(
            round=number,
            clients=drawn,
            num_parameters=self._num_parameters,
            quorum=min(self._quorum(len(drawn)), len(drawn)),
            deadline_at_s=at_s + min(self._job.round_deadline_s, within_s),
            masked=self._job.secure_aggregation,
        )
        self._on_drawn(number, drawn, at_s)
        self._open = run = _Open(
            state=RoundState(config),
            opened_at_s=at_s,
            tau=tau,
            compare=compare,
            weights=weights,
            news=news,
            sampled=len(drawn) / len(self._members),
        )
        for name in drawn:
            self._members[name].patience.give(at_s)
        return [self._hand_out(run, name, at_s) for name in drawn]

    def on_contribution(self, event: Received, contribution: Contribution) -> list[Instruction]:
        """An update came: acknowledge it, and have it read."""
        name, run = contribution.header.client, self._open
        out: list[Instruction] = [self._ports.down_control(event.peer, Ack(request_id=contribution.request_id), event.at_s)]
        if run is None or name not in self._members:
            return out
        run.up_bytes += event.num_bytes
        reason = run.state.reason_against(contribution.header, event.at_s) or ("duplicate" if name in run.decoding else None)
        if reason is not None:
            run.state.refuse(reason)
            return out
        run.decoding.add(name)
        member = self._members[name]
        member.heard_at_s, member.base_digest = event.at_s, self._base_digest  # without the base there would be no update
        return [*out, Decode(contribution=contribution, parcel=event.parcel)]

    def on_decoded(self, decoded: Decoded) -> None:
        """An update has been read: it counts if the round takes it."""
        run = self._open
        if run is None or decoded.round != run.state.config.round or decoded.client not in run.decoding:
            return
        run.decoding.discard(decoded.client)
        heard_at_s = self._members[decoded.client].heard_at_s
        if decoded.update is None:
            run.unreadable += 1
            run.state.give_up_on(decoded.client, heard_at_s)
            return
        if run.compare and not _is_sound(decoded):
            run.state.refuse("bad_metrics")
            run.state.give_up_on(decoded.client, heard_at_s)
        elif run.state.offer(decoded.update, heard_at_s) is not None:
            run.state.give_up_on(decoded.client, heard_at_s)
        else:
            self._members[decoded.client].patience.answered(heard_at_s, decoded.update.header.metrics.get("dwell_s", 0.0))
            if run.compare and decoded.estimate is not None and decoded.gradient is not None:
                run.estimates[decoded.client] = (decoded.estimate, decoded.gradient)

    def on_declined(self, declined: Declined, at_s: float) -> list[Instruction]:
        """A client will not answer; what it lacks may be the base."""
        if declined.client in self._members:
            self._members[declined.client].base_digest = ""
        if self._open is not None and declined.round == self._open.state.config.round:
            self._open.state.give_up_on(declined.client, at_s)
        return []

    def poll(self, at_s: float) -> list[Instruction]:
        """Time passed."""
        if self._open is not None and not self._open.decoding:
            self._open.state.poll(at_s)
        return []

    @property
    def failure(self) -> str:
        """Why the round failed."""
        return "no quorum by the deadline"

    @property
    def deadline_at_s(self) -> float:
        """Of the open round; infinite when there is none, and while something is read that came in time: the round does not end before that."""
        run = self._open
        is_due = run is not None and run.state.phase == "open" and not run.decoding
        return run.state.config.deadline_at_s if run is not None and is_due else math.inf

    def take(self, at_s: float) -> Collected:
        """What the closed round brought, once."""
        run = self._open
        assert run is not None
        assert self.phase == "closed"
        updates = run.state.take()
        clients = tuple(update.header.client for update in updates)
        known = [run.estimates[name] for name in clients if name in run.estimates]
        slowest = max(updates, key=lambda update: self._members[update.header.client].heard_at_s).header
        member, dwell_s = self._members[slowest.client], slowest.metrics.get("dwell_s", 0.0)
        weights = np.array([update.header.num_examples for update in updates], dtype=np.float64)
        losses = np.array([update.header.metrics.get("loss", math.nan) for update in updates])
        sums: dict[str, float] = {}
        for update in updates:
            for name, value in update.header.metrics.items():
                sums[name] = sums.get(name, 0.0) + value
        refused = {str(reason): count for reason, count in run.state.num_refused.items() if count}
        return Collected(
            updates=updates,
            sampled=run.sampled,
            estimates=tuple(estimate for estimate, _ in known),
            gradients=tuple(gradient for _, gradient in known),
            clients=clients,
            missing=run.state.stragglers(),
            refused=refused | ({"unreadable": run.unreadable} if run.unreadable else {}),
            loss=float(losses @ weights / weights.sum()),
            compute_s=slowest.metrics.get("compute_s", 0.0),
            transfer_s=max(0.0, member.heard_at_s - member.sent_at_s - dwell_s) + slowest.metrics.get("transfer_s", 0.0),
            lasted_s=at_s - run.opened_at_s,
            up_bytes=run.up_bytes,
            down_bytes=run.down_bytes,
            sums=sums,
        )

    # ------------------------------------------------------------ details

    def _hand_out(self, run: _Open, name: str, at_s: float) -> Instruction:
        member, config = self._members[name], run.state.config
        message = Round(
            request_id=next(self._ids),
            job=self._job.name,
            client=name,
            round=config.round,
            tau=run.tau,
            reply_within_s=max(0.0, config.deadline_at_s - at_s),
            compare=run.compare,
            masking=self._masking(name),
            num_rounds=run.news.num_rounds,
            loss=run.news.loss,
            drift=run.news.drift,
        )
        sent = self._ports.down(member.peer, message.request_id, message, self._payload(run, member), at_s)
        member.sent_at_s, member.heard_at_s = at_s, 0.0
        run.down_bytes += sent.num_bytes
        return sent.send

    @property
    def _base_digest(self) -> str:
        return self.base.digest if self.base is not None else ""

    def _payload(self, run: _Open, member: Member) -> Parcel:
        if self.base is None or member.base_digest == self.base.digest:
            return pack([run.weights])
        return pack([run.weights, self.base.vector])

    def _count_attempt(self, num_rounds: int) -> int:
        """From 1, of those after so many rounds: together they say whom to draw, whatever the clock of this host and its restarts."""
        after, attempts = self._attempts
        self._attempts = num_rounds, (attempts if after == num_rounds else 0) + 1
        return self._attempts[1]

    def _on_drawn(self, number: int, drawn: Sequence[str], at_s: float) -> None:
        """Of a round that is about to go out."""

    def _masking(self, client: str) -> Masking | None:
        return None

    def _num_drawn(self, num_clients: int) -> int:
        return num_drawn(self._job.sample_fraction, num_clients)

    def _quorum(self, num_drawn: int) -> int:
        return max(1, math.ceil(self._job.quorum_fraction * num_drawn))


def _is_sound(decoded: Decoded) -> bool:
    """Whether what a client says of its loss surface, if it says anything, can be computed with."""
    estimate, gradient = decoded.estimate, decoded.gradient
    if estimate is None or gradient is None:
        return True
    return all(0.0 <= value < math.inf for value in (estimate.lipschitz, estimate.smoothness)) and bool(np.isfinite(gradient).all())
