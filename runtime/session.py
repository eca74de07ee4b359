"""The client's side of a node: send requests, hear outcomes, ask questions with a deadline."""

from __future__ import annotations

import itertools
import secrets
import time

import numpy as np

from runtime.codec import from_frames, to_frames
from runtime.errors import InvalidInput, MalformedMessage, PeerLost
from runtime.links import REQUEST_ID_BITS
from runtime.messages import Decision, Failure, Measure, Measured, Message, Outcome, StatusQuery, StatusReport, Submit
from runtime.transport import Context, Dealer, Poller

CONNECT_S = 5.0
RETRY_S = 0.02

SESSION_ID_BITS = 48
"""Ids of questions and single requests have this bit set, and none above it; those of episodes (envs/live.py) never do."""


def session_ids() -> itertools.count[int]:
    """Ids of one session's, which no other's are, but by a chance of 2^-27: nodes tell requests apart by nothing else.

    Their low bits count from 0, as an episode's do, for jitter of emulated links is drawn from them.
    """
    return itertools.count(1 << SESSION_ID_BITS | secrets.randbits(SESSION_ID_BITS - 1 - REQUEST_ID_BITS) << REQUEST_ID_BITS)


class Session:
    """One client's connection to one node.  Not thread-safe: one thread owns it."""

    def __init__(self, context: Context, address: str) -> None:
        self._dealer: Dealer = context.dealer(address)
        self._ids = session_ids()
        self._poller = Poller([self._dealer])
        self.address = address

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._dealer.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def dealer(self) -> Dealer:
        """For callers with a poll loop of their own."""
        return self._dealer

    def send(self, message: Message, *tensors: np.ndarray, timeout_s: float = CONNECT_S) -> None:
        """Send, waiting for the connection if need be.  Raises PeerLost."""
        frames = to_frames(message, tensors)
        until_s = time.perf_counter() + timeout_s
        while not self._dealer.send(frames):
            if time.perf_counter() > until_s:
                raise PeerLost(f"nobody at {self.address} within {timeout_s:g} s; is the node running?")
            self._poller.wait(RETRY_S)

    def receive(self, timeout_s: float) -> tuple[Message, list[np.ndarray]] | None:
        """The next message, or None after `timeout_s`.  Raises MalformedMessage."""
        frames = self._dealer.recv()
        if frames is None and self._poller.wait(timeout_s):
            frames = self._dealer.recv()
        return None if frames is None else from_frames(frames)

    def infer(
        self,
        model: str,
        image: np.ndarray,
        deadline_s: float,
        decision: Decision | None = None,
        *,
        tenant: str = "",
        stream: str = "",
        fresh: bool = False,
    ) -> Outcome:
        """One request, start to end: uint8 image of the model's input shape -> Outcome.

        Raises PeerLost when the device does not answer by the deadline and a second.
        """
        submit = Submit(
            request_id=next(self._ids), model=model, deadline_s=deadline_s, decision=decision, tenant=tenant, stream=stream, fresh=fresh
        )
        return self._submit(submit, image)[0]

    def infer_output(
        self, model: str, tensor: np.ndarray, deadline_s: float, decision: Decision | None = None, *, fresh: bool = False
    ) -> tuple[Outcome, np.ndarray | None]:
        """One request, start to end, and what the answering exit put out: a generator's picture, a classifier's logits.

        The output has the shape that the model gives it, batch of one; None when the request failed.  It crosses every link
        back, so it must fit into one message.  Raises like `infer`.
        """
        submit = Submit(request_id=next(self._ids), model=model, deadline_s=deadline_s, decision=decision, fresh=fresh, with_output=True)
        outcome, tensors = self._submit(submit, tensor)
        return outcome, tensors[0] if tensors else None

    def _submit(self, submit: Submit, tensor: np.ndarray) -> tuple[Outcome, list[np.ndarray]]:
        self.send(submit, tensor)
        answer, tensors = self._answer_with_tensors(submit.request_id, submit.deadline_s + 1.0)
        if not isinstance(answer, Outcome):
            raise MalformedMessage(f"expected an Outcome, got {type(answer).__name__}")
        return answer, tensors

    def status(self, timeout_s: float = CONNECT_S) -> StatusReport:
        """What the node says it is.  Raises PeerLost."""
        request_id = next(self._ids)
        self.send(StatusQuery(request_id=request_id), timeout_s=timeout_s)
        answer = self.answer(request_id, timeout_s)
        if not isinstance(answer, StatusReport):
            raise MalformedMessage(f"{self.address} is no node: expected a StatusReport, got {type(answer).__name__}")
        return answer

    def measure(self, model: str, variant: str, start: int, stop: int, exit: int | None, repeats: int, timeout_s: float = 60.0) -> Measured:
        """Let the node time a segment.  Raises InvalidInput when it has no such segment, PeerLost when it is silent."""
        request_id = next(self._ids)
        self.send(Measure(request_id=request_id, model=model, variant=variant, start=start, stop=stop, exit=exit, repeats=repeats))
        answer = self.answer(request_id, timeout_s)
        if isinstance(answer, Failure):
            raise InvalidInput(f"{self.address}: {answer.message}")
        if not isinstance(answer, Measured):
            raise MalformedMessage(f"expected Measured, got {type(answer).__name__}")
        return answer

    def answer(self, request_id: int, timeout_s: float) -> Message:
        """Wait for the message that answers this id; others belong to questions given up.  Raises PeerLost."""
        return self._answer_with_tensors(request_id, timeout_s)[0]

    def _answer_with_tensors(self, request_id: int, timeout_s: float) -> tuple[Message, list[np.ndarray]]:
        until_s = time.perf_counter() + timeout_s
        while (rest_s := until_s - time.perf_counter()) > 0:
            received = self.receive(rest_s)
            if received is not None and getattr(received[0], "request_id", None) == request_id:
                return received
        raise PeerLost(f"{self.address} did not answer within {timeout_s:g} s")
