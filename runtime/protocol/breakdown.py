"""Where a request's time went, as the device puts it together from its own clock and the others' spans."""

from __future__ import annotations

from runtime.messages import Breakdown, Span
from runtime.protocol.task import DeviceTask


def breakdown_of(task: DeviceTask, at_s: float) -> Breakdown:
    """Tile the device's time with the request: every instant belongs to exactly one part.

    Only durations come from other hosts: a link's share is what is left of the wait for the answer
    once the answering node's own dwell is taken off.  A failed request's parts reach as far as it came.
    """
    edge = task.upstream_spans[0] if task.upstream_spans else Span()
    cloud = task.upstream_spans[1] if len(task.upstream_spans) > 1 else Span()
    marks = _device_marks(task, at_s)
    return Breakdown(
        client_s=task.waited_s,
        preprocess_s=marks["preprocess"],
        decision_s=marks["decision"],
        queue_s=(marks["queue"], edge.queue_s, cloud.queue_s),
        compute_s=(max(0.0, marks["compute"] - task.codec_s), edge.compute_s, cloud.compute_s),
        codec_s=(task.codec_s, edge.codec_s, cloud.codec_s),
        serialise_s=(
            marks["serialise"],
            _rest_s(edge),
            _rest_s(cloud),
        ),
        transfer_s=(marks["upstream"] - edge.dwell_s, edge.upstream_s - cloud.dwell_s),
        postprocess_s=marks["postprocess"],
        reuse_s=(task.reuse_s, edge.reuse_s, cloud.reuse_s),
        handover_s=edge.handover_s,
        load_s=(marks["load"], edge.load_s, cloud.load_s),
    )


def _rest_s(span: Span) -> float:
    """Of a node's dwell, what no other part has: handling the message and its answer."""
    known_s = span.queue_s + span.compute_s + span.codec_s + span.upstream_s + span.reuse_s + span.load_s + span.handover_s
    return span.dwell_s - known_s


def _device_marks(task: DeviceTask, at_s: float) -> dict[str, float]:
    """The device's own intervals, in order, each ending where the next begins."""
    instants = [("reuse", task.inspected_at_s)] if task.inspected_at_s else []
    instants += [("preprocess", task.asked_at_s), ("decision", task.decided_at_s)]
    if task.wanted_at_s:
        instants.append(("load", task.loaded_at_s))
    if task.started_at_s:
        instants += [("queue", task.started_at_s), ("compute", task.computed_at_s)]
    elif not task.handed_at_s and (task.loaded_at_s or not task.wanted_at_s):
        instants.append(("queue", 0.0))  # it ended waiting
    if task.handed_at_s:
        instants += [("serialise", task.handed_at_s), ("upstream", task.answered_at_s)]
    instants.append(("postprocess", at_s))
    marks = dict.fromkeys(("reuse", "preprocess", "decision", "load", "queue", "compute", "serialise", "upstream", "postprocess"), 0.0)
    previous_s = task.arrived_at_s
    for name, instant_s in instants:
        end_s = instant_s if instant_s else at_s  # never reached: it ended within this part
        marks[name] = end_s - previous_s
        previous_s = end_s
    return marks
