"""levels.html: one self-contained file for people with the table, the verdicts and a plot.

Importing this needs matplotlib, the `[report]` extra; MissingExtra says so otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments import page
from experiments.level_claims import CLAIMS, PARTS, Finding, holds_but_for_returns, overall
from experiments.level_measures import LevelSummary
from experiments.level_table import level_grid, level_legend
from experiments.plots.levels import level_bars
from experiments.plots.style import DARK, LIGHT
from experiments.runs import RunFolder
from runtime.files import write_atomically

PAGE_NAME, PLOT_NAME = "levels.html", "levels.png"
CAPTION = "Each level's figures, c is the cloud; orange where a figure moved against what is claimed, from the level before it."


def write_level_page(
    folder: RunFolder,
    summaries: Sequence[LevelSummary],
    findings: Sequence[Finding],
    info: str,
    emulated: Sequence[str],
    notes: Sequence[str] = (),
) -> Path:
    """Write levels.html and plots/levels.png into a run folder; returns the page's path.

    `info` says what was played, `notes` what somebody should know who reads the figures.  Raises OSError.
    """
    light, dark = level_bars(summaries, findings, LIGHT), level_bars(summaries, findings, DARK)
    write_atomically(folder.plots / PLOT_NAME, light)
    path = folder.path / PAGE_NAME
    figure = page.picture(light, dark, "Levels", CAPTION)
    write_atomically(path, render_page(folder.path.name, summaries, findings, figure, info, emulated, notes).encode())
    return path


def render_page(
    run: str,
    summaries: Sequence[LevelSummary],
    findings: Sequence[Finding],
    figure: str,
    info: str,
    emulated: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The whole document; `figure` is HTML already."""
    grid = level_grid(summaries)
    sections = [
        page.heading("Levels of edge intelligence"),
        page.paragraph(f"Run {run}. {info}", "soft"),
        page.paragraph(overall(findings), "headline"),
        page.section("What is claimed of higher levels, and what was measured", _verdicts(findings)),
        page.section("Figures", page.table(grid.header, [("", [page.cell(text) for text in row]) for row in grid.rows]), figure),
        page.section("How to read them", page.code("\n".join(level_legend()))),
        page.section("What else to know", page.bullets(list(notes), "Nothing.")),
        page.section("What is emulated", page.bullets(list(emulated), "Nothing is emulated.")),
    ]
    return page.page(f"drlctl levels ({run})", sections)


def _verdicts(findings: Sequence[Finding]) -> str:
    cards = []
    for claim in CLAIMS:
        said = {one.part: one for one in findings if one.claim == claim.words}
        body = "".join(page.paragraph(f"{part}: {said[part].sentence}") for part in PARTS if part in said)
        held = all(holds_but_for_returns(one) for one in said.values())
        cards.append(page.card(claim.words, body, "good" if held else "bad"))
    return f'<div class="columns">{"".join(cards)}</div>'
