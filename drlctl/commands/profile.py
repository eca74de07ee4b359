"""`drlctl profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drlctl.commands.options import JsonOption, ScenarioArgument

if TYPE_CHECKING:
    from drlctl.privacy import Attacked


def command(
    scenario: ScenarioArgument = "congested",
    out: Annotated[Path | None, typer.Option(help="File to write [default: profiles/SCENARIO.json].")] = None,
    privacy: Annotated[
        bool, typer.Option("--privacy", help="Also attack every cut: how well can the input be reconstructed from it? (minutes)")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure SCENARIO's model on its own nodes: seconds per stage and tier, bytes per cut, links, accuracy, privacy.

    Then some requests are really played, and the simulator's overheads are fitted to them; where a job trains beside the
    requests, so is a model of how its loss falls to some of its rounds.
    """
    from envs.scenario import load_scenario

    chosen = load_scenario(scenario)
    from drlctl.commands.models import print_difficulty
    from drlctl.job_profiling import job_lines
    from drlctl.models import show_model
    from drlctl.output import ProgressLine, note, print_json, print_table, print_text
    from drlctl.profiling import profile_live
    from drlctl.systems import default_profile_path
    from runtime.profile import save_profile
    from runtime.rapl import energy_difference

    for line in chosen.topology.emulation_notice():
        note(line)
    attacked = _attack(chosen.model) if privacy else None
    with ProgressLine() as progress:
        profile, residuals = profile_live(chosen, progress)
    path = out or default_profile_path(chosen)
    if attacked is not None:
        profile = attacked.fill_in(profile)
        for picture in attacked.save_pictures(path):
            note(f"reconstructions: {picture}")
    save_profile(profile, path)
    note(f"profile: {path}")
    if as_json:
        print_json({"profile": profile, "residuals": residuals})
        return
    if profile.job is not None:
        for line in job_lines(profile.job):
            print_text(line)
    rows = []
    for name, variant in profile.variants.items():
        times = [f"{1e3 * (sum(variant.stage_s[tier]) + variant.head_s[tier][-1]):.1f}" for tier in variant.stage_s]
        memory = (f"{variant.size_bytes / 1e6:.2f}", f"{variant.loaded_bytes / 1e6:.1f}")
        rows.append((name, *times, f"{variant.accuracy['test'][-1]:.1%}", *memory))
    print_text(
        f"the calibrated simulator is off by {residuals.median_abs_s * 1e3:.1f} ms ({residuals.median_abs_fraction:.1%})"
        f" in the median of {residuals.num_requests} requests"
    )
    for line in profile.steal_notice():
        print_text(line)
    print_text(
        f"energy of these requests on the device, modelled: {residuals.modelled_joules:.2f} J live,"
        f" {residuals.simulated_joules:.2f} J in the simulator"
    )
    if residuals.host_energy is not None:
        print_text(energy_difference(residuals.modelled_joules, residuals.host_energy))
    print_table(("whole model", "device ms", "edge ms", "cloud ms", "accuracy", "MB on disk", "MB loaded"), rows)
    difficulty = show_model(profile.model).difficulty
    if difficulty is not None:
        print_difficulty(difficulty)
    if attacked is not None:
        print_table(("cut", "correlation", "NMSE", "SSIM", "attack", "s"), attacked.rows())


def _attack(model: str) -> Attacked:
    """The model under attack.  Raises MissingExtra."""
    from drlctl.output import ProgressLine
    from drlctl.privacy import attack_model
    from runtime.models.build import ensure_model

    with ProgressLine() as progress:
        return attack_model(ensure_model(model), progress)
