"""One real picture through a running system, and its answer with the breakdown."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from drlctl.pictures import Invert, load_picture
from drlctl.state import find_running
from runtime.errors import InvalidDecision, InvalidInput, UnknownModel
from runtime.messages import TIERS, Decision, Outcome, StatusReport
from runtime.models.build import ensure_model
from runtime.models.manifest import Manifest, load_manifest
from runtime.session import Session
from runtime.transport import Context

_DECISION = re.compile(r"(?P<variant>[^/]+)/(?P<p>\d+),(?P<q>\d+)/(?P<exit>\d+)")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one picture."""

    answer: str | None
    """Name of the class; None when there was no answer."""
    confidence: float | None
    emulated: bool
    """The device's times are imitated."""
    outcome: Outcome


def parse_decision(text: str, manifest: Manifest) -> Decision:
    """Read `VARIANT/P,Q/EXIT`, as `int8/2,5/1`.  Raises InvalidDecision or UnknownModel for one the model cannot carry out."""
    match = _DECISION.fullmatch(text.strip())
    if match is None:
        raise InvalidDecision(f"a decision is VARIANT/P,Q/EXIT, like fp32/2,5/1, got {text!r}")
    p, q, exit = (int(match[name]) for name in ("p", "q", "exit"))
    decision = Decision(model=manifest.model, variant=match["variant"], cuts=(p, q), exit=exit)
    manifest.check(decision)
    return decision


def ask(
    picture: Path,
    *,
    address: str = "",
    state: Path,
    decision: str = "",
    deadline_s: float = 2.0,
    invert: Invert = "auto",
    crop: bool = True,
    smooth: bool = True,
) -> Answer:
    """Send a picture to the device at `address`, or to the one published in `state`; the device decides unless told.

    Raises PeerLost when nobody answers, InvalidInput when it is no device or has no model, InvalidTensor for a bad picture,
    InvalidDecision for a bad decision.
    """
    known = find_running(state) if not address else None
    with Context() as context, Session(context, address or (known.addresses["device"] if known else "")) as session:
        status = session.status()
        model = asked_model(status, session.address)
        manifest = load_manifest(Path(known.model_dirs[0]) if known and known.model_dirs else ensure_model(model))
        image = load_picture(picture, manifest.input, invert, crop=crop, smooth=smooth)
        wanted = parse_decision(decision, manifest) if decision else None
        outcome = session.infer(manifest.model, image, deadline_s, wanted)
    named = manifest.classes[outcome.prediction] if outcome.prediction is not None else None
    return Answer(answer=named, confidence=outcome.confidence, emulated=status.emulated, outcome=outcome)


def asked_model(status: StatusReport, address: str) -> str:
    """The first model of the device there.  Raises InvalidInput for another node, UnknownModel for a device without any."""
    if status.tier != "device":
        raise InvalidInput(f"{address} is {status.name!r}, a node of the {status.tier}: pictures are given to a device")
    if not status.models:
        raise UnknownModel(f"the device at {address} serves no model: start its node with one")
    return status.models[0]


def parts(outcome: Outcome) -> list[tuple[str, float]]:
    """(name, seconds) of the breakdown in the order in which they happen, those that took time."""
    breakdown = outcome.breakdown
    rows = [("client", breakdown.client_s), ("preprocess", breakdown.preprocess_s), ("decision", breakdown.decision_s)]
    for index, tier in enumerate(TIERS):
        rows += [
            (f"{tier} reuse", breakdown.reuse_s[index]),
            (f"{tier} load", breakdown.load_s[index]),
            (f"{tier} queue", breakdown.queue_s[index]),
            (f"{tier} compute", breakdown.compute_s[index]),
            (f"{tier} codec", breakdown.codec_s[index]),
            (f"{tier} serialise", breakdown.serialise_s[index]),
        ]
        if index < len(breakdown.transfer_s):
            rows.append((("uplink", "wan")[index] + " transfer", breakdown.transfer_s[index]))
        if tier == "edge":
            rows.append(("edge handover", breakdown.handover_s))
    rows.append(("postprocess", breakdown.postprocess_s))
    return [(name, seconds) for name, seconds in rows if seconds > 0]
