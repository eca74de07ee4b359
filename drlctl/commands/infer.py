"""`drlctl infer`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drlctl.commands.options import JsonOption, StateOption

if TYPE_CHECKING:
    from drlctl.asking import Answer

BAR_CHARS = 40


class InvertMode(StrEnum):
    """Whether the picture's brightness is turned over."""

    auto = "auto"
    yes = "yes"
    no = "no"


def command(
    picture: Annotated[Path, typer.Argument(help="A picture file: PNG, JPEG, ...")],
    address: Annotated[str, typer.Option(help="The device's address [default: that of the running `drlctl up`].")] = "",
    decision: Annotated[
        str, typer.Option(help="Where and how it runs, VARIANT/P,Q/EXIT, like fp32/2,5/1 [default: the device has it decided].")
    ] = "",
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds in which the answer must be here.")] = 2.0,
    invert: Annotated[
        InvertMode, typer.Option(help="Models see bright ink on dark; `auto` looks at the picture's border.")
    ] = InvertMode.auto,
    crop: Annotated[bool, typer.Option("--crop/--no-crop", help="Cut the picture down to its ink first.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth/--no-smooth", help="Blur it like the scans that the model learnt from.")] = True,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send PICTURE through a running system; print the answer and where the time went.  Exit code 1 when there is no answer."""
    from drlctl.asking import ask
    from drlctl.output import print_json
    from drlctl.state import state_path

    answer = ask(
        picture,
        address=address,
        state=state_path(state),
        decision=decision,
        deadline_s=deadline,
        invert=invert.value,
        crop=crop,
        smooth=smooth,
    )
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    raise typer.Exit(0 if answer.outcome.status == "ok" else 1)


def _show(answer: Answer) -> None:
    from drlctl.asking import parts
    from drlctl.output import print_text

    outcome = answer.outcome
    if answer.answer is not None and answer.confidence is not None:
        print_text(f"answer      {answer.answer}  (confidence {answer.confidence:.1%})")
    else:
        print_text(f"no answer   {outcome.status}: {outcome.message}")
    if outcome.reused != "no":
        print_text(f"reused      {outcome.reused} on the {outcome.reused_at}")
    if outcome.handed_over:
        print_text(f"handed over to another edge, {outcome.handover_bytes[0]} bytes there, {outcome.handover_bytes[1]} back")
    if outcome.decision is not None:
        print_text(f"decision    {outcome.decision.label()}  (by the {outcome.decided_by})")
    print_text(f"latency     {outcome.latency_s * 1e3:.2f} ms of {outcome.deadline_s * 1e3:g} ms")
    print_text(f"energy      {outcome.energy_joules * 1e3:.2f} mJ on the device (modelled)")
    print_text(f"sent        {outcome.link_bytes[0]} bytes over the uplink, {outcome.link_bytes[1]} over the wan")
    if answer.emulated:
        print_text("note        tiers or links are EMULATED: these are not this host's own times")
    print_text()
    total_s = max(outcome.breakdown.total_s(), 1e-9)
    for name, seconds in parts(outcome):
        print_text(f"  {name:<17} {seconds * 1e3:9.3f} ms  {'#' * round(BAR_CHARS * seconds / total_s)}".rstrip())
