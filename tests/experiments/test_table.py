"""The table on a terminal and in a file."""

from __future__ import annotations

import io

from experiments.table import comparison_grid, plain_table, print_summary
from tests.experiments.test_summarise import DEARER, NOISE, summary_of, three_seeds

SUMMARY = summary_of(three_seeds("learned", NOISE), three_seeds("greedy", DEARER))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It does."""
        return True


def test_plain_text_is_aligned_and_whole() -> None:
    """Every line as wide as the header or shorter, nothing wrapped or cut, no escape codes."""
    stream = io.StringIO()
    print_summary(SUMMARY, stream)
    text = stream.getvalue()
    lines = text.splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("policy"))
    assert lines[header + 2].split()[:2] == ["learned", "1.050"]
    assert lines[header + 3].startswith("greedy")
    assert lines[header].index("p95 ms") + len("p95 ms") == len(lines[header + 2][: lines[header].index("p95 ms") + 6])
    assert "\x1b" not in text
    assert "device: EMULATED" in text
    assert "learned beats" in text


def test_a_terminal_gets_colour_and_a_narrow_one_does_not(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Boxes only where they fit, and never against NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for columns, no_colour, coloured in (("200", None, True), ("80", None, False), ("200", "1", False)):
        monkeypatch.setenv("COLUMNS", columns)
        if no_colour:
            monkeypatch.setenv("NO_COLOR", no_colour)
        stream = Terminal()
        print_summary(SUMMARY, stream)
        assert ("\x1b[" in stream.getvalue()) == coloured


def test_unknown_figures_are_empty_cells() -> None:
    """No label, no decision time: no number, instead of 0."""
    grid = comparison_grid(summary_of(three_seeds("greedy", NOISE, correct=None)))
    row = dict(zip(grid.header, grid.rows[0], strict=True))
    assert row["accuracy"] == row["decide us"] == row["above learned"] == ""
    assert grid.emphasised is None
    assert plain_table(grid).count("\n") == 2
