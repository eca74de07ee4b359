"""A node that learns without a server: local steps, half of its weight to one peer, whatever came meanwhile mixed in.

    Join ──Round (weights to begin from)──► GossipSteps ──► GossipDone ──► Gossip to a peer, PeerState to the observer ──► next

Nobody waits for anybody.  Messages go through the nodes above, which only pass them on.  In a `local` job a peer is alone: it
begins with weights of its own, and nobody is sent anything but the observer, which measures.
Source: Blot et al., "Gossip training for deep learning", 2016, algorithm 1 (GoSGD); peers on a ring take turns clockwise.
"""

from __future__ import annotations

import math

import numpy as np

from runtime.codecs.parcel import pack
from runtime.messages import Ack, FitJob, FitPhase, FitReport, Gossip, Join, PeerState, Round
from runtime.protocol.events import Instruction, Received
from runtime.training.gossip import GossipState, can_send, random_peer, ring_peer, send_half, start_gossip
from runtime.training.protocol.client import REJOIN_S
from runtime.training.protocol.ports import Ports
from runtime.training.protocol.rounds import transfer_ids
from runtime.training.protocol.tasks import GossipDone, GossipSteps, Prepared, TrainerResult
from runtime.training.update import read_vector

MAX_WAITING = 64
"""Messages that wait to be mixed in; a peer that is so far behind drops the oldest, which costs mass and is counted."""


class Peer:
    """One of the peers of one job."""

    def __init__(self, job: FitJob, peers: tuple[str, ...], prepared: Prepared, ports: Ports) -> None:
        self._job, self._peers, self._ports = job, peers, ports
        self._index = peers.index(ports.name)
        self._num_parameters, self._num_examples = prepared.num_parameters, prepared.num_examples
        self._own = prepared.weights
        self._rng = np.random.default_rng([job.seed, self._index])
        self._ids = transfer_ids()
        self._state: GossipState | None = None
        self._waiting: list[GossipState] = []
        self._tau, self._round = 0, 0
        self._join_at_s = 0.0
        self._sent_bytes, self._heard_bytes, self._sending_s, self._dropped = 0, 0, 0.0, 0
        self._compute_s = 0.0
        """Since the observer was told last, as the four above."""
        self._told: set[int] = set()
        """Transfers of measurements."""

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """Weights to begin from, and other peers' halves."""
        match event.message:
            case Round() if event.source == "up" and event.message.client == self._ports.name:
                return self._on_round(event, event.message)
            case Gossip() if event.source == "up" and event.message.target == self._ports.name:
                return self._on_gossip(event, event.message)
            case _:
                return []

    def on_done(self, result: TrainerResult, at_s: float) -> list[Instruction]:
        """Local steps are done: half goes to a peer, and on."""
        if not isinstance(result, GossipDone) or self._state is None or result.round != self._round:
            return []
        if result.vector is None:
            return []  # it cannot train; the observer's deadline tells
        self._state = GossipState(weight=result.weight, vector=result.vector)
        self._compute_s += result.compute_s
        out = self._send_half(at_s)
        due = self._round % self._job.evaluate_every == 0 or self._round == self._job.rounds
        if due:
            out += self._tell(result, at_s)
        return [*out, *self._next()] if self._round < self._job.rounds else out

    def tick(self, at_s: float) -> list[Instruction]:
        """Join until there are weights to begin from."""
        if at_s < self._join_at_s:
            return []
        join = self._ports.up_control(Join(job=self._job.name, client=self._ports.name, num_examples=self._num_examples), at_s)
        self._join_at_s = at_s + REJOIN_S
        return [join] if join is not None else []

    def on_undelivered(self, transfer_id: int, at_s: float) -> list[Instruction]:
        """The half is lost with its mass: the mean keeps its value among those that are left.  A lost measurement costs nobody anything."""
        self._dropped += transfer_id not in self._told
        return []

    def on_upstream_lost(self, at_s: float) -> list[Instruction]:
        """It goes on alone."""
        return []

    @property
    def next_tick_at_s(self) -> float:
        """When to join; never again once it has begun."""
        return self._join_at_s

    def report(self, request_id: int, since_round: int) -> FitReport:
        """How far this peer is."""
        phase: FitPhase = "joining" if self._state is None else "done" if self._round >= self._job.rounds else "training"
        return FitReport(request_id=request_id, job=self._job.name, phase=phase, round=self._round, tau=self._tau)

    # ------------------------------------------------------------ details

    def _on_round(self, event: Received, message: Round) -> list[Instruction]:
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s)
        out: list[Instruction] = [ack] if ack is not None else []
        vector = self._own if self._own is not None else read_vector(event.parcel, self._num_parameters)
        self._heard_bytes += event.num_bytes if self._own is None else 0
        if self._state is not None or vector is None:
            return out
        self._state, self._tau = start_gossip(vector, len(self._peers)), message.tau
        self._round, self._join_at_s = message.round, math.inf
        return [*out, *self._next()]

    def _on_gossip(self, event: Received, message: Gossip) -> list[Instruction]:
        ack = self._ports.up_control(Ack(request_id=message.request_id), event.at_s)
        self._heard_bytes += event.num_bytes
        vector = read_vector(event.parcel, self._num_parameters)
        if vector is None:
            self._dropped += 1
        else:
            self._waiting.append(GossipState(weight=message.weight, vector=vector))
            self._dropped += len(self._waiting) > MAX_WAITING
            del self._waiting[:-MAX_WAITING]
        return [ack] if ack is not None else []

    def _next(self) -> list[Instruction]:
        assert self._state is not None
        self._round += 1
        incoming, self._waiting = tuple(self._waiting), []
        return [GossipSteps(job=self._job.name, round=self._round, tau=self._tau, state=self._state, incoming=incoming)]

    def _send_half(self, at_s: float) -> list[Instruction]:
        assert self._state is not None
        if len(self._peers) < 2 or not can_send(self._state):
            return []
        count = len(self._peers)
        target = ring_peer(self._index, count) if self._job.peers == "ring" else random_peer(self._index, count, self._rng)
        kept, half = send_half(self._state)
        transfer_id = next(self._ids)
        message = Gossip(
            request_id=transfer_id, job=self._job.name, source=self._ports.name, target=self._peers[target], weight=half.weight
        )
        sent = self._ports.up(transfer_id, message, pack([half.vector]), at_s)
        if sent is None:
            return []  # nobody to carry it: the half stays here
        self._state = kept
        self._sent_bytes += sent.num_bytes
        self._sending_s += sent.sending_s
        return [sent.send]

    def _tell(self, done: GossipDone, at_s: float) -> list[Instruction]:
        """The observer is told; its bytes are the measurement's, and no part of the job's."""
        assert self._state is not None
        metrics = {
            "loss": done.loss,
            "compute_s": self._compute_s,
            "transfer_s": self._sending_s,
            "joules": self._ports.joules(self._compute_s, self._sent_bytes, self._sending_s),
            "up_bytes": float(self._sent_bytes),
            "down_bytes": float(self._heard_bytes),
            "dropped": float(self._dropped),
        }
        self._sent_bytes, self._heard_bytes, self._sending_s, self._dropped, self._compute_s = 0, 0, 0.0, 0, 0.0
        transfer_id = next(self._ids)
        self._told.add(transfer_id)
        message = PeerState(
            request_id=transfer_id,
            job=self._job.name,
            client=self._ports.name,
            round=self._round,
            weight=self._state.weight,
            num_examples=self._num_examples,
            metrics=metrics,
        )
        sent = self._ports.up(transfer_id, message, pack([self._state.vector]), at_s)
        return [sent.send] if sent is not None else []
