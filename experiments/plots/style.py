"""How plots look: one colour and dash per policy everywhere, safe for colour-blind readers, on light and dark paper."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec

from experiments.learning import LearningCurve
from experiments.records import Record
from experiments.summary import Summary
from runtime.errors import MissingExtra

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter
except ImportError as exc:
    raise MissingExtra("plots need matplotlib, which is not installed: pip install 'drlctl[report]'") from exc

__all__ = ["DARK", "LIGHT", "Axes", "Figure", "PlotData", "Theme", "colour", "dash", "emphasise", "plain_log", "rc_context", "to_png"]

DOTS_PER_INCH = 150

_COLOURS = {
    "learned": "#d55e00",
    "greedy": "#0072b2",
    "edgent": "#009e73",
    "neurosurgeon": "#cc79a7",
    "edge-only": "#56b4e9",
    "cloud-only": "#e69f00",
    "random": "#999999",
}
"""Okabe & Ito, "Color Universal Design", 2008.  Its black is the paper's ink: `device-only`."""
_SPARE = ("#882255", "#117733", "#999933", "#332288", "#44aa99", "#aa4499")
"""For policies of other names: Paul Tol, "Colour Schemes", 2021, muted."""
_DASHES: dict[str, tuple[float, ...]] = {
    "learned": (),
    "greedy": (6, 2),
    "edgent": (6, 2, 1, 2),
    "neurosurgeon": (3, 1.5),
    "edge-only": (8, 2, 1, 2, 1, 2),
    "cloud-only": (4, 1, 1, 1),
    "device-only": (1, 1.2),
    "random": (2, 3),
}


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """Colours of paper and ink."""

    name: str
    paper: str
    ink: str
    soft: str
    """Ticks and notes."""
    grid: str

    def rc(self) -> dict[Any, Any]:
        """matplotlib settings of this theme."""
        return {
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "text.color": self.ink,
            "text.parse_math": False,  # names are anybody's: a `$` in one is a `$`
            "axes.labelcolor": self.ink,
            "axes.titlecolor": self.ink,
            "axes.edgecolor": self.soft,
            "xtick.color": self.soft,
            "ytick.color": self.soft,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "grid.color": self.grid,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "legend.fontsize": 9,
            "figure.constrained_layout.use": True,
        }


LIGHT = Theme(name="light", paper="#ffffff", ink="#1b1f24", soft="#6a737d", grid="#e4e7eb")
DARK = Theme(name="dark", paper="#171b21", ink="#e6e9ee", soft="#98a2b0", grid="#2c333d")


class PlotData(msgspec.Struct, frozen=True, kw_only=True):
    """All that plots are drawn from."""

    summary: Summary
    records: Sequence[Record]
    learning: LearningCurve | None = None

    @property
    def policies(self) -> tuple[str, ...]:
        """Cheapest first."""
        return tuple(self.summary.policies)


def colour(data: PlotData, policy: str, theme: Theme) -> str:
    """The policy's colour in every plot of a report."""
    if policy == data.summary.learned:
        return _COLOURS["learned"]
    if policy == "device-only":
        return theme.ink
    others = sorted(name for name in data.summary.policies if name not in _COLOURS and name != "device-only")
    return _COLOURS[policy] if policy in _COLOURS else _SPARE[others.index(policy) % len(_SPARE)]


def dash(data: PlotData, policy: str) -> tuple[float, tuple[float, ...] | None]:
    """The policy's line style, so that colour is never the only difference."""
    if policy == data.summary.learned:
        return 0, None
    return 0, _DASHES.get(policy, (5, 1, 2, 1)) or None


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times powers of ten, in ordinary figures."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def emphasise(axes: Axes, names: Sequence[str], data: PlotData) -> None:
    """Set the learned policy's name on the y axis in bold; `names` label its ticks."""
    for text, name in zip(axes.get_yticklabels(), names, strict=True):
        text.set_fontweight("bold" if name == data.summary.learned else "normal")


def to_png(figure: Figure) -> bytes:
    """A figure as PNG, without a date in it: the same data gives the same bytes."""
    engine = figure.get_layout_engine()
    if engine is not None:  # once is enough; saving would lay it out twice more
        engine.execute(figure)
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
