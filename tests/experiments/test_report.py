"""The report: self-contained, honest, escaped, and drawn from the run's files alone."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from experiments.comparison import compare
from experiments.learning import LearningCurve, load_learning, read_training_curve, save_learning
from experiments.plots import DARK, LIGHT, PLOTS, PlotData, draw
from experiments.plots.style import colour, dash
from experiments.records import Record, read_records
from experiments.report import render_report, write_report
from experiments.runs import RunFolder
from experiments.summary import Summary, load_summary
from runtime.errors import InvalidInput
from tests.experiments.test_comparison import make_contest, make_run
from tests.experiments.test_records import make_record
from tests.experiments.test_summarise import NOISE, summary_of, three_seeds

CURVE = LearningCurve(timesteps=(0, 1000, 2000), cost=(2.0, 1.2, 1.0), baselines={"greedy": 1.1, "device-only": 50.0})
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A whole run with its report."""
    folder = make_run(tmp_path_factory.mktemp("report"))
    contest = make_contest()
    knowledge = msgspec.structs.replace(contest.knowledge, forecast=lambda observation, decision: 0.05)
    compare(msgspec.structs.replace(contest, knowledge=knowledge), folder)
    save_learning(CURVE, folder.learning)
    write_report(folder)
    return folder


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember tag and links."""
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Must close what was opened last."""
        assert self.open.pop() == tag


def test_the_page_fetches_and_runs_nothing(reported: RunFolder) -> None:
    """One file: no script, no link out, every picture inline; and its tags nest."""
    text = reported.report.read_text()
    page = Page(text)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_every_plot_is_there_and_exists_as_png(reported: RunFolder) -> None:
    """Each with light and dark form inline, and a PNG file."""
    names = {plot.name for plot in PLOTS}
    assert {path.stem for path in reported.plots.iterdir()} == names
    assert all(path.read_bytes().startswith(PNG) for path in reported.plots.iterdir())
    page = Page(reported.report.read_text())
    assert page.tags.count("img") == page.tags.count("source") == len(names)


def test_what_readers_must_know_is_said(reported: RunFolder) -> None:
    """Emulated, modelled, the command, the seeds, where figures come from."""
    text = reported.report.read_text()
    for words in ("EMULATED", "MODELLED", "drlctl evaluate toy", "1, 2, 3", "records.jsonl", "Where it does not win", "bootstrap"):
        assert words in text


def test_the_traced_figure_is_the_one_shown(reported: RunFolder) -> None:
    """The example of the last section gives the number it promises, computed from the file."""
    text = reported.report.read_text()
    match = re.search(r"the mean cost of ([\w-]+), ([\d.e-]+), is:", text)
    assert match is not None
    rows = [msgspec.json.decode(line) for line in reported.records.read_bytes().splitlines()]
    costs = [row["cost"] for row in rows if row["policy"] == match[1]]
    assert f"{sum(costs) / len(costs):.6g}" == match[2]


def test_a_report_can_be_made_again(reported: RunFolder) -> None:
    """The same files give the same bytes."""
    records = read_records(reported.records)
    data = PlotData(summary=load_summary(reported.summary), records=records, learning=load_learning(reported.learning))
    cost = next(plot for plot in PLOTS if plot.name == "cost")
    assert draw(cost, data, LIGHT) == (reported.plots / "cost.png").read_bytes()


def hostile_summary() -> tuple[Summary, list[Record]]:
    """Names that are markup or mathematics."""
    groups = [three_seeds("learned", NOISE), three_seeds('<img src=x onerror="alert(1)">$', NOISE)]
    summary = summary_of(*groups)
    hostile = msgspec.structs.replace(summary, scenario="<script>", description='"><b>', command="x && <y>", emulation=("<i>$x$",))
    return hostile, [record for group in groups for record in group]


def test_names_are_never_markup() -> None:
    """Whatever scenarios and policies are called, they are text, in HTML and in plots."""
    summary, records = hostile_summary()
    data = PlotData(summary=summary, records=records)
    text = render_report(summary, data, {})
    page = Page(text)
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert "<script>" not in text
    assert "<img src=x" not in text
    for plot in PLOTS:
        draw(plot, data, LIGHT)  # a `$` in a name is no mathematics: it must not raise


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_plots_leave_out_what_is_not_known(theme: object) -> None:
    """Nothing answered, nobody decided, one policy, no replay: fewer pictures, no crash."""
    records = [make_record(request_id=index, status="overload", decision=None, correct=None, cost=3.0) for index in range(5)]
    data = PlotData(summary=summary_of(records, learned=None), records=records)
    drawn = {plot.name for plot in PLOTS if draw(plot, data, theme)}  # type: ignore[arg-type]
    assert drawn == {"cost", "latency"}


def test_policies_look_different_and_always_the_same() -> None:
    """Eight policies and three strangers: eleven looks, and one colour per policy whoever else plays."""
    names = ["device-only", "edge-only", "cloud-only", "random", "neurosurgeon", "edgent", "greedy", "mine", "yours", "theirs"]
    groups = [three_seeds(name, NOISE[:4]) for name in ["learned", *names]]
    data = PlotData(summary=summary_of(*groups), records=())
    looks = {name: (colour(data, name, LIGHT), dash(data, name)) for name in ["learned", *names]}
    assert len({shade for shade, _ in looks.values()}) == 11
    fewer = PlotData(summary=summary_of(groups[0], groups[7]), records=())
    assert (colour(fewer, "greedy", LIGHT), dash(fewer, "greedy")) == looks["greedy"]


def test_without_matplotlib_the_extra_is_named() -> None:
    """What to install is in the message."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from runtime.errors import MissingExtra\n"
        "try:\n    import experiments.report\n"
        "except MissingExtra as exc:\n    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert "pip install 'drlctl[report]'" in done.stdout


def test_playing_and_summing_up_need_no_extra() -> None:
    """Evaluation imports neither matplotlib nor torch nor stable-baselines3."""
    program = (
        "import sys\nimport experiments.comparison, experiments.table, experiments.learning\n"
        "print({'matplotlib', 'torch', 'stable_baselines3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_without_summary_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(InvalidInput, match=r"summary\.json"):
        write_report(make_run(tmp_path))


def test_a_training_runs_curve_is_read(tmp_path: Path) -> None:
    """One point per line, greedy from the last, further heuristics added; a torn last line is left out."""
    path = tmp_path / "curve.jsonl"
    line = b'{"timesteps":%d,"seconds":1.5,"learned_cost":%f,"greedy_cost":0.8,"is_best":true}\n'
    path.write_bytes(line % (0, 0.8) + line % (4096, 0.7) + b'{"timesteps":81')
    curve = read_training_curve(path, {"edge-only": 1.5})
    assert curve == LearningCurve(timesteps=(0, 4096), cost=(0.8, 0.7), baselines={"greedy": 0.8, "edge-only": 1.5})
    path.write_bytes(b"{}\n" + line % (0, 0.8))
    with pytest.raises(InvalidInput, match=r"curve\.jsonl"):
        read_training_curve(path)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_training_curve(tmp_path / "nowhere.jsonl")


def test_learning_curves_are_kept(tmp_path: Path) -> None:
    """Saved is loaded; none is None; corrupt or lopsided ones are named."""
    path = tmp_path / "learning.json"
    assert load_learning(path) is None
    save_learning(CURVE, path)
    assert load_learning(path) == CURVE
    for bad in (b"{}", b"\xff", b'{"timesteps": [1, 2], "cost": [1.0]}'):
        path.write_bytes(bad)
        with pytest.raises(InvalidInput, match=r"learning\.json"):
            load_learning(path)
