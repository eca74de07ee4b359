"""Request ids come from clients, so one may come again: while its first request lives, or while that one's job still waits."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.codec import from_frames
from runtime.messages import Failure, Outcome, Result, Span
from runtime.protocol.events import Event, Instruction, Run, Send
from runtime.protocol.node_machine import NodeMachine
from tests.runtime.protocol_helpers import (
    LOGITS,
    computed,
    decision,
    features,
    make_device,
    make_node,
    received,
    runs,
    sent,
    submit,
    tick,
    work,
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from([0.05, 0.5, 0.0]), st.sampled_from([(3, 3), (1, 3), (0, 3)])),
        st.tuples(st.just("done")),
        st.tuples(st.just("answer"), st.integers(0, 2)),
        st.tuples(st.just("tick")),
    ),
    min_size=20,
    max_size=40,
)


def answered(out: list[Instruction]) -> list[bytes]:
    """Whoever was told how its request ended."""
    down = [item for item in out if isinstance(item, Send) and item.target == "down"]
    return [item.peer for item in down if isinstance(from_frames(item.frames)[0], Outcome | Result | Failure)]


class Played:
    """A node, its worker, and whom it has answered."""

    def __init__(self, node: NodeMachine) -> None:
        self.node = node
        self.running: Run | None = None
        self.answers: Counter[bytes] = Counter()

    def handle(self, event: Event) -> None:
        out = self.node.handle(event)
        self.answers.update(answered(out))
        for run in runs(out):
            assert self.running is None, "the worker does one thing at a time"
            self.running = run

    def done(self, at_s: float) -> None:
        """The worker is done with what it has, if anything."""
        if self.running is not None:
            run, self.running = self.running, None
            event = computed(run.request_id, at_s - 0.01, at_s, [LOGITS if run.exit is not None else features()])
            self.handle(event)


@pytest.mark.parametrize("tier", ["device", "edge"])
@given(steps=STEPS)
def test_whoever_asks_hears_once_whatever_ids_others_use(tier: str, steps: list[tuple[object, ...]]) -> None:
    """Clients that share three ids, with jobs that outlive their requests: each is answered exactly once, and the node lives."""
    played = Played(make_device() if tier == "device" else make_node("edge"))
    at_s, asked = 1.0, []
    for kind, *rest in steps:
        at_s += 0.02
        if kind == "ask":
            request_id, left_s, cuts = rest
            asked.append(b"%d" % len(asked))
            cuts = cuts if tier == "device" else (0, cuts[0])
            if tier == "device":
                event = submit(request_id, at_s, decision(cuts), deadline_s=left_s)
            else:
                event = work(request_id, at_s, cuts, 0, budget_s=left_s)
            played.handle(msgspec.structs.replace(event, peer=asked[-1]))
        elif kind == "done":
            played.done(at_s)
        elif kind == "answer":
            played.handle(received(Result(request_id=rest[0], exit=1, spans=(Span(),)), [LOGITS], at_s=at_s, source="up"))
        else:
            played.handle(tick(at_s))
    played.handle(tick(at_s + 1.0))
    played.done(at_s + 1.0)
    assert played.answers == Counter(asked)


def test_an_expired_job_does_not_end_another_request_of_its_id() -> None:
    """Request 2 expires behind a long job, and its client asks again with the same id: that one is computed."""
    device = make_device()
    device.handle(submit(1, 1.0, decision((3, 3)), deadline_s=5.0))
    device.handle(submit(2, 1.0, decision((3, 3)), deadline_s=0.1))
    (late,) = sent(device.handle(tick(1.11)), "down")
    assert isinstance(late, Outcome)
    assert late.status == "deadline"
    device.handle(submit(2, 1.12, decision((3, 3)), deadline_s=5.0))
    out = device.handle(computed(1, 1.0, 1.2, [LOGITS]))
    assert [run.request_id for run in runs(out)] == [2]
    assert [message.request_id for message in sent(out, "down") if isinstance(message, Outcome)] == [1]
    (outcome,) = sent(device.handle(computed(2, 1.2, 1.3, [LOGITS])), "down")
    assert isinstance(outcome, Outcome)
    assert outcome.status == "ok"
