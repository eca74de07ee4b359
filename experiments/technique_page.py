"""techniques.html: one self-contained file for people with the table, the changes as a plot, and what each technique is.

Importing this needs matplotlib, the `[report]` extra; MissingExtra says so otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from envs.scenario import Scenario
from experiments import page
from experiments.plots.style import DARK, LIGHT
from experiments.plots.techniques import technique_changes
from experiments.runs import RunFolder
from experiments.technique_effects import Effect, lost_notice
from experiments.technique_table import effect_grid, legend
from runtime.files import write_atomically

PAGE_NAME, PLOT_NAME = "techniques.html", "techniques.png"
CAPTION = (
    "Change by each technique over the same requests, bars with 95 % intervals where they are intervals; blue is better, orange worse."
    " Bars are cut off at 150 %; the figures beside them are not. A request without an answer counts as wrong."
)


def write_technique_page(folder: RunFolder, scenario: Scenario, effects: Sequence[Effect]) -> Path:
    """Write techniques.html and plots/techniques.png into a run folder; returns the page's path.  Raises OSError."""
    light, dark = technique_changes(effects, LIGHT), technique_changes(effects, DARK)
    path = folder.path / PAGE_NAME
    write_atomically(folder.plots / PLOT_NAME, light)
    write_atomically(path, render_page(folder.path.name, scenario, effects, page.picture(light, dark, "Changes", CAPTION)).encode())
    return path


def render_page(run: str, scenario: Scenario, effects: Sequence[Effect], figure: str) -> str:
    """The whole document; `figure` is HTML already."""
    grid = effect_grid(effects)
    emulated = scenario.topology.emulation_notice()
    info = f"Run {run}: {scenario.model} on {scenario.name}, {len(scenario.evaluation.seeds)} blocks of {scenario.evaluation.num_requests}."
    sections = [
        page.heading("Techniques off and on"),
        page.paragraph(f"{info} Both settings of a technique play the same live requests in turns.", "soft"),
        page.section("What they change", figure),
        page.section("Figures", page.table(grid.header, [("", [page.cell(text) for text in row]) for row in grid.rows])),
        page.section("What they are", page.code("\n".join(legend(effects)))),
        page.section("Episodes that were lost", page.bullets(lost_notice(effects), "None.")),
        page.section("What is emulated", page.bullets(emulated, "Nothing is emulated.")),
    ]
    return page.page(f"drlctl techniques: {scenario.name} ({run})", sections)
