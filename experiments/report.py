"""report.html: one self-contained file for people, and the same plots as PNG beside it.

Drawn from summary.json, records.jsonl and learning.json alone, so it can be made again at any time.
Importing this needs matplotlib, the `[report]` extra; MissingExtra says so otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments import page
from experiments.job_table import job_rows, job_table
from experiments.learning import load_learning
from experiments.plots import DARK, LIGHT, PLOTS, Plot, PlotData, draw
from experiments.records import read_records
from experiments.report_tables import comparison_table, gap_table
from experiments.runs import RunFolder
from experiments.summary import Summary, load_summary
from experiments.verdict import Verdict, verdict
from runtime.files import write_atomically

FIRST_PLOTS = ("cost", "load")
"""Shown before the other plots, right behind the table."""


def write_report(folder: RunFolder) -> Path:
    """Write report.html and plots/*.png into a run folder that has its summary; returns the report's path.

    Raises InvalidInput when the run's files are missing or corrupt, and OSError when it cannot be written.
    """
    summary = load_summary(folder.summary)
    data = PlotData(summary=summary, records=read_records(folder.records), learning=load_learning(folder.learning))
    figures: dict[str, str] = {}
    for plot in PLOTS:
        light, dark = draw(plot, data, LIGHT), draw(plot, data, DARK)
        if light is not None:
            write_atomically(folder.plots / f"{plot.name}.png", light)
            figures[plot.name] = page.picture(light, dark, plot.title, plot.caption)
    write_atomically(folder.report, render_report(summary, data, figures).encode())
    return folder.report


def render_report(summary: Summary, data: PlotData, figures: dict[str, str]) -> str:
    """The whole document; `figures` maps a plot's name to its HTML."""
    words = verdict(summary)
    titles = {plot.name: plot for plot in PLOTS}
    first = [_plot(titles[name], figures) for name in FIRST_PLOTS if name in figures]
    others = [_plot(plot, figures) for plot in PLOTS if plot.name in figures and plot.name not in FIRST_PLOTS]
    sections = [
        _top(summary, words),
        page.section("All policies", comparison_table(data), page.paragraph(_legend(summary), "soft")),
        *([page.section("The training job beside the requests", job_table(summary))] if job_rows(summary) else []),
        *first,
        *others,
        *([page.section("Simulator against live", *_gap(summary))] if summary.sim_to_live is not None else []),
        page.section("Trace every figure", *_trace(summary)),
    ]
    return page.page(f"drlctl: {summary.scenario} ({summary.run})", sections)


def _top(summary: Summary, words: Verdict) -> str:
    emulated = "Part of this system is EMULATED, see below." if summary.emulation else "Nothing is emulated."
    parts = [
        f"<header>{page.heading(summary.scenario)}",
        page.paragraph(summary.description, "soft") if summary.description else "",
        page.paragraph(
            f"Run {summary.run}, {summary.created_at}. {len(summary.policies)} policies, {len(summary.seeds)} seeds,"
            f" {summary.requests_per_episode} requests each; same arrivals, pictures and links for all. {emulated}",
            "soft",
        ),
        "</header>",
        page.paragraph(words.headline, "headline"),
    ]
    if summary.comparison is not None:
        parts.append(
            '<div class="columns">'
            + page.card(f"Where {summary.learned} is better", page.bullets(words.wins, "Nowhere, on these requests."), "good")
            + page.card("Where it does not win", page.bullets(words.losses, "No such place was found on these requests."), "bad")
            + "</div>"
        )
    parts.append(f'<div class="note"><h3>Before you trust these numbers</h3>{page.bullets(words.caveats)}</div>')
    return "\n".join(parts)


def _legend(summary: Summary) -> str:
    return (
        f"{summary.method}. Underlined: best in its column. Latency percentiles count a failed request with at least its deadline;"
        " missed is the share without an answer by the deadline; accuracy counts no answer as a wrong one; energy is modelled;"
        " decide is the median until the decision was there, as the device saw it."
    )


def _plot(plot: Plot, figures: dict[str, str]) -> str:
    return page.section(plot.title, figures[plot.name])


def _gap(summary: Summary) -> Sequence[str]:
    gap = summary.sim_to_live
    if gap is None:
        return ()
    lines = [f"{gap.num_compared} requests were answered in both worlds under the same decisions"]
    if gap.latency_median_abs_pct_error is not None and gap.latency_median_pct_error is not None:
        lines.append(
            f"their latency differs by {gap.latency_median_abs_pct_error:.1f} % in the median"
            f" (signed: {gap.latency_median_pct_error:+.1f} %, above 0 the simulator is slower)"
        )
    if gap.status_agreement is not None:
        lines.append(f"{gap.status_agreement:.1%} of the replayed requests ended with the same status")
    if gap.rank_spearman is not None and gap.rank_kendall is not None:
        same = "the same winner" if gap.same_winner else "ANOTHER winner"
        lines.append(
            f"playing by themselves in the simulator, policies are ranked with Spearman {gap.rank_spearman:.2f}"
            f" and Kendall {gap.rank_kendall:.2f} against live, {same}"
        )
    return page.bullets(lines), gap_table(gap)


def _trace(summary: Summary) -> Sequence[str]:
    first = next(iter(summary.policies))
    query = f"jq -s 'map(select(.policy == \"{first}\") | .cost) | add / length' records.jsonl"
    versions = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    return (
        page.facts(
            (
                ("command", summary.command),
                ("seeds", ", ".join(map(str, summary.seeds))),
                ("created", summary.created_at),
                ("versions", versions),
                ("scenario", "scenario.toml, as it was played"),
                ("records", "records.jsonl, one line per request and policy; simulated.jsonl, the same in the simulator"),
                ("figures", "summary.json, computed from those two files alone; plots/*.png, from summary.json and records.jsonl"),
            )
        ),
        page.paragraph(f"For example, the mean cost of {first}, {summary.policies[first].cost_mean:.6g}, is:"),
        page.code(query),
    )
