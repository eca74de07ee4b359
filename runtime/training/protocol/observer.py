"""Whoever watches gossip: gives all peers the same weights to begin from, then only listens, measures, and keeps the records.

It averages nothing and answers nobody; without it the peers learn the same.  A peer that comes (back) late begins from the mean of
what was heard last.  Clients of a `local` job are given no weights: each begins with its own, and a late one from the beginning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel, pack
from runtime.messages import Ack, FitJob, FitReport, Gossip, Join, PeerState, Round, RoundRecord
from runtime.protocol.events import Instruction, Received
from runtime.training.gossip import GossipState, weighted_consensus
from runtime.training.protocol.course import Course
from runtime.training.protocol.patience import Patience
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.tasks import Assess, Assessed, Prepared, TrainerResult
from runtime.training.update import has_sound_metrics, read_vector


@dataclass(slots=True)
class _Heard:
    """One round's states, by peer."""

    first_at_s: float
    states: dict[str, PeerState] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


class Observer:
    """The observer of one job."""

    def __init__(self, job: FitJob, peers: tuple[str, ...], prepared: Prepared, ports: Ports, at_s: float) -> None:
        assert prepared.weights is not None, "an observer is prepared with weights"
        self._job, self._names, self._ports = job, peers, ports
        self._num_parameters = prepared.num_parameters
        self._start: np.ndarray = prepared.weights
        self._latest: dict[str, GossipState] = {}
        self._peers: dict[str, bytes] = {}
        self._patience: dict[str, Patience] = {}
        """With those that were given weights and have told nothing since."""
        self._ids = transfer_ids()
        self._course = Course(job, (), at_s)
        self._rounds: dict[int, _Heard] = {}
        self._assessing: _Heard | None = None
        self._next_round = min(job.evaluate_every, job.rounds)

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Peers join, tell how they are, and send each other things through here."""
        match event.message:
            case Join(client=client) if client in self._names:
                return self._on_join(client, event.peer, event.at_s)
            case Gossip(target=target) if target in self._peers:
                ack = self._ports.down_control(event.peer, Ack(request_id=event.message.request_id), event.at_s)
                transfer_id = next(self._ids)
                message = msgspec.structs.replace(event.message, request_id=transfer_id)
                return [ack, self._ports.down(self._peers[target], transfer_id, message, event.parcel, event.at_s).send]
            case PeerState(client=client) if client in self._names:
                return self._on_state(event, event.message)
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """A round has been measured."""
        if not isinstance(result, Assessed) or self._assessing is None:
            return []
        heard, self._assessing = self._assessing, None
        self._course.add(self._record(heard, result, at_s))
        self._next_round = min(self._next_round + self._job.evaluate_every, self._job.rounds)
        return self._assess(at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Deadlines of joining, and of what the slowest peers owe."""
        return self._begin(at_s) if self._course.phase == "joining" else self._assess(at_s)

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """Nothing goes up from here."""
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """Nobody is above."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """The next deadline."""
        if self._course.phase == "joining":
            return self._course.join_by_s
        heard = self._rounds.get(self._next_round)
        waits = self._course.phase == "training" and heard is not None and self._assessing is None
        return heard.first_at_s + self._job.round_deadline_s if waits and heard is not None else math.inf

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far the job is."""
        return self._course.report(request_id, since_round, tau=self._job.tau.tau, joined=tuple(self._peers))

    # ------------------------------------------------------------ details

    def _on_join(self, name: str, peer: bytes, at_s: float) -> list[Instruction]:
        is_other = self._peers.get(name) != peer
        self._peers[name] = peer
        if self._course.phase != "training":
            return self._begin(at_s)
        patience = self._patience.get(name)
        if is_other or patience is None:  # a peer that has begun joins no more: this one was started anew
            return [self._hand_out(name, at_s)]
        return [self._hand_out(name, at_s, patience)] if patience.try_again(at_s) else []

    def _begin(self, at_s: float) -> list[Instruction]:
        quorum = math.ceil(self._job.quorum_fraction * len(self._names))
        if not self._course.try_to_begin(tuple(self._peers), len(self._names), quorum, at_s):
            return []
        return [self._hand_out(name, at_s) for name in self._peers]

    def _hand_out(self, name: str, at_s: float, patience: Patience | None = None) -> Instruction:
        """With the `patience` that there was before, if the same is handed out once more."""
        self._patience[name] = patience or Patience(at_s)
        weights, number, alone = self._start, 0, self._job.architecture == "local"
        if self._latest and not alone:
            weights = weighted_consensus(list(self._latest.values())).astype(np.float32)
            number = self._course.num_rounds
        transfer_id = next(self._ids)
        message = Round(
            request_id=transfer_id,
            job=self._job.name,
            client=name,
            round=number,
            tau=self._job.tau.tau,
            reply_within_s=self._job.round_deadline_s,
        )
        parcel = Parcel() if alone else pack([weights])
        return self._ports.down(self._peers[name], transfer_id, message, parcel, at_s).send

    def _on_state(self, event: Received, state: PeerState) -> list[Instruction]:
        ack = self._ports.down_control(event.peer, Ack(request_id=state.request_id), event.at_s)
        vector = read_vector(event.parcel, self._num_parameters)
        if vector is None or not has_sound_metrics(state.metrics) or self._course.phase != "training":
            return [ack]
        self._patience.pop(state.client, None)
        self._latest[state.client] = GossipState(weight=state.weight, vector=vector)
        heard = self._rounds.setdefault(state.round, _Heard(event.at_s))
        heard.states[state.client], heard.vectors[state.client] = state, vector
        return [ack, *self._assess(event.at_s)]

    def _assess(self, at_s: float) -> list[Instruction]:
        """Measure the next round once all have told of it, or its deadline has passed."""
        heard = self._rounds.get(self._next_round)
        if heard is None or self._assessing is not None or self._course.phase != "training":
            return []
        if len(heard.states) < len(self._names) and at_s < heard.first_at_s + self._job.round_deadline_s:
            return []
        self._assessing = self._rounds.pop(self._next_round)
        self._rounds = {number: other for number, other in self._rounds.items() if number > self._next_round}
        states = tuple(GossipState(weight=state.weight, vector=heard.vectors[name]) for name, state in sorted(heard.states.items()))
        return [Assess(job=self._job.name, states=states)]

    def _record(self, heard: _Heard, result: Assessed, at_s: float) -> RoundRecord:
        states = heard.states.values()
        weights = np.array([state.num_examples for state in states], dtype=np.float64)
        losses = np.array([state.metrics.get("loss", math.nan) for state in states])

        def total(name: str) -> float:
            return math.fsum(state.metrics.get(name, 0.0) for state in states)

        return RoundRecord(
            round=self._next_round,
            tau=self._job.tau.tau,
            at_s=self._course.lasted_s(at_s),
            clients=tuple(sorted(heard.states)),
            missing=tuple(name for name in self._names if name not in heard.states),
            loss=float(losses @ weights / weights.sum()),
            accuracy=result.accuracy,
            test_loss=result.test_loss,
            compute_s=max(state.metrics.get("compute_s", 0.0) for state in states),
            transfer_s=max(state.metrics.get("transfer_s", 0.0) for state in states),
            waiting_s=0.0,
            up_bytes=(round(total("up_bytes")), 0),
            down_bytes=(round(total("down_bytes")), 0),
            device_joules=total("joules"),
            refused={"dropped": round(total("dropped"))} if total("dropped") else {},
            consensus_distance=result.consensus_distance,
        )
