"""A training job from its user's side: give nodes their roles, watch the root, give restarted nodes their roles again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import msgspec

from runtime.errors import InvalidInput, MalformedMessage, PeerLost, RoundFailed
from runtime.messages import Failure, FitJob, FitQuery, FitReady, FitReport, FitStart, FitStop, Message, RoundRecord, SetTau
from runtime.session import Session
from runtime.training.places import BETWEEN, ROLES_DOWNWARDS, Place
from runtime.transport import Context

PREPARE_S, PREPARE_NODE_S = 120.0, 10.0
"""To import torch, load the data and make the network; and more for each node, because many may share few cores."""
POLL_S = 0.2
CHECK_S = 2.0
"""Between two looks at whether each node is still there and knows the job."""
ANSWER_S = 5.0

_ids = itertools.count(1 << 41)


class FitSession:
    """One job on running nodes.  Leaving its `with` block closes the connections; the job goes on unless it is stopped."""

    def __init__(self, job: FitJob, places: Mapping[str, Place], is_gone: Callable[[str], bool] = lambda _: False) -> None:
        """`is_gone`: whether a node has ended and nobody will start it again; who does not know waits for it as long as for one that is."""
        self.job, self._places, self._is_gone = job, dict(places), is_gone
        self._stack = ExitStack()
        context = self._stack.enter_context(Context())
        self._sessions = {name: self._stack.enter_context(Session(context, place.address)) for name, place in self._places.items()}
        (self._root,) = (name for name, place in self._places.items() if place.role in {"root", "observer"})

    def __enter__(self) -> FitSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # ------------------------------------------------------------ life of a job

    def start(self, timeout_s: float | None = None, given_up: Callable[[], bool] = lambda: False) -> dict[str, FitReady]:
        """Give every node its role, those above first; they load at the same time.

        Raises InvalidInput when one refuses it, PeerLost when one is not ready in time, is gone, or soon after somebody has `given_up`.
        """

        def look() -> None:
            for name in asked:
                self._check(name)
            if given_up():
                raise PeerLost(f"job {self.job.name!r} was given up before all nodes were ready")

        asked = {name: self._ask_to_start(name) for name in self._order()}
        limit_s = PREPARE_S + PREPARE_NODE_S * len(asked) if timeout_s is None else timeout_s
        until_s, ready = time.perf_counter() + limit_s, {}
        for name, request_id in asked.items():
            try:
                ready[name] = self._ready(name, request_id, until_s, look)
            except PeerLost as exc:
                look()
                raise PeerLost(
                    f"{name} had not loaded torch and the data {limit_s:g} s after it was given job {self.job.name!r};"
                    f" {len(ready)} of {len(asked)} nodes had: use fewer clients, or a host that is less busy"
                ) from exc
        return ready

    def run(self, on_record: Callable[[RoundRecord, FitReport], None] | None = None, timeout_s: float = float("inf")) -> FitReport:
        """Watch until the job is done; nodes that were restarted meanwhile are given their roles again.

        The last report, with the records of all rounds.  Raises RoundFailed when the job failed, PeerLost when the root stays away,
        or is gone, or all clients are.
        """
        records: dict[int, RoundRecord] = {}
        until_s, check_at_s = time.perf_counter() + timeout_s, 0.0
        while True:
            report = self.report(max(records, default=0))
            for record in report.records:
                records[record.round] = record
                if on_record is not None:
                    on_record(record, report)
            if report.phase == "failed":
                raise RoundFailed(f"job {self.job.name!r}: {report.message}")
            if report.phase == "done" and max(records, default=0) >= report.round:
                return msgspec.structs.replace(report, records=tuple(records[number] for number in sorted(records)))
            if time.perf_counter() > until_s:
                raise PeerLost(f"job {self.job.name!r} was not done within {timeout_s:g} s: {report.round} rounds")
            if time.perf_counter() > check_at_s:
                self._check_clients(report)
                self.revive()
                check_at_s = time.perf_counter() + CHECK_S
            self._sessions[self._root].receive(POLL_S)

    def report(self, since_round: int = 0, patience_s: float = PREPARE_S) -> FitReport:
        """How far the root is.  Raises PeerLost when neither it nor one started in its place answers, tried for `patience_s`.

        Of a root that is gone, within ANSWER_S.
        """
        until_s = time.perf_counter() + patience_s
        while True:
            self._check(self._root)
            try:
                answer = self._query(self._root, since_round)
            except PeerLost:
                if time.perf_counter() > until_s:
                    raise
                continue
            if isinstance(answer, FitReport):
                return answer
            self._ready(self._root, self._ask_to_start(self._root), until_s + ANSWER_S, lambda: self._check(self._root))

    def set_tau(self, tau: int) -> None:
        """Decide the local steps of the rounds to come; each record says what its round used.

        Raises InvalidInput for a tau that is not in 1..max_tau, or a job whose rule is not `decided`.
        """
        rule = self.job.tau
        if rule.rule != "decided" or not 1 <= tau <= rule.max_tau:
            raise InvalidInput(f"tau is set where the job's tau.rule is 'decided', to 1..{rule.max_tau}; got {tau} under {rule.rule!r}")
        self._sessions[self._root].send(SetTau(job=self.job.name, tau=tau))

    def revive(self) -> list[str]:
        """Give their roles again to nodes that know nothing of the job; their names.  Nodes that do not answer are left alone."""
        revived = []
        for name in self._present():
            try:
                if isinstance(self._query(name, self.job.rounds), Failure):
                    self._ask_to_start(name)  # its FitReady needs no waiting for: it joins when it is ready
                    revived.append(name)
            except PeerLost:
                continue
        return revived

    def stop(self) -> None:
        """Let every node that answers leave the job; all are told before the first answer is waited for."""
        told = {name: request_id for name in self._present() if (request_id := self._ask_to_stop(name)) is not None}
        until_s = time.perf_counter() + ANSWER_S
        for name, request_id in told.items():
            try:
                self._answer(name, request_id, max(POLL_S, until_s - time.perf_counter()))
            except PeerLost:
                continue

    # ------------------------------------------------------------ details

    def _order(self) -> list[str]:
        return sorted(self._places, key=lambda name: ROLES_DOWNWARDS.index(self._places[name].role))

    def _present(self) -> list[str]:
        """Those worth asking: each that is gone would cost the time in which nobody answers."""
        return [name for name in self._order() if not self._is_gone(name)]

    def _check(self, name: str) -> None:
        if self._is_gone(name):
            raise PeerLost(f"{name} has ended, and job {self.job.name!r} does not go on without it")

    def _check_clients(self, report: FitReport) -> None:
        """Raise PeerLost when no client can be heard any more: the root would wait for deadlines, an observer for ever."""
        if self.job.architecture == "centralised" and (report.joined or report.phase != "joining"):
            return  # the root has the examples that it trains on
        clients = [name for name, place in self._places.items() if place.role in {"client", "peer"}]
        if all(self._is_cut_off(name) for name in clients):
            gone = ", ".join(filter(self._is_gone, self._order()))
            raise PeerLost(f"job {self.job.name!r} has no client left, and does not go on; ended: {gone}")

    def _is_cut_off(self, client: str) -> bool:
        """Whether it has ended, or the node between it and the root."""
        above = [name for name, place in self._places.items() if place.role in BETWEEN and client in place.clients]
        return any(self._is_gone(name) for name in (client, *above))

    def _ask_to_start(self, name: str) -> int:
        place, request_id = self._places[name], next(_ids)
        start = FitStart(request_id=request_id, job=self.job, role=place.role, clients=place.clients, client=place.client)
        self._sessions[name].send(start)
        return request_id

    def _ask_to_stop(self, name: str) -> int | None:
        """The request's id; None where the node takes no messages."""
        request_id = next(_ids)
        try:
            self._sessions[name].send(FitStop(request_id=request_id, job=self.job.name), timeout_s=ANSWER_S)
        except PeerLost:
            return None
        return request_id

    def _ready(self, name: str, request_id: int, until_s: float, look: Callable[[], None]) -> FitReady:
        answer = self._answer_looking(name, request_id, until_s, look)
        if isinstance(answer, Failure):
            raise InvalidInput(f"{name}: {answer.message}")
        if not isinstance(answer, FitReady):
            raise MalformedMessage(f"{name}: expected FitReady, got {type(answer).__name__}")
        return answer

    def _query(self, name: str, since_round: int) -> Message:
        request_id = next(_ids)
        self._sessions[name].send(FitQuery(request_id=request_id, job=self.job.name, since_round=since_round), timeout_s=ANSWER_S)
        return self._answer(name, request_id, ANSWER_S)

    def _answer_looking(self, name: str, request_id: int, until_s: float, look: Callable[[], None]) -> Message:
        """Wait for an answer, and meanwhile `look` now and then whether there is still something to wait for: it raises if not."""
        while True:
            rest_s = until_s - time.perf_counter()
            try:
                return self._answer(name, request_id, min(rest_s, CHECK_S))
            except PeerLost:
                look()
                if rest_s <= CHECK_S:
                    raise

    def _answer(self, name: str, request_id: int, timeout_s: float) -> Message:
        return self._sessions[name].answer(request_id, timeout_s)
