"""The page of techniques: whole, self-contained, and with every technique on it."""

from __future__ import annotations

from pathlib import Path

from envs.scenario import Scenario
from experiments.runs import create_run
from experiments.stats import Estimate
from experiments.technique_effects import Change, Effect, setting_of
from experiments.technique_page import PAGE_NAME, PLOT_NAME, write_technique_page
from tests.experiments.test_records import make_record


def make_effect(name: str, **changes: object) -> Effect:
    there = Estimate(mean=-0.2, low=-0.3, high=-0.1)
    change = Change(**{"latency": there, "accuracy": there, "energy": there, "link_bytes": -0.5} | changes)  # type: ignore[arg-type]
    setting = setting_of("fp32 x2 d7-e7", [make_record()])
    return Effect(technique=name, what=f"what {name} does", off=setting, on=setting, change=change)


def test_it_shows_every_technique(tmp_path: Path) -> None:
    """The plot as PNG and inside the page, names and meanings as text; nothing is fetched, unknown changes are left out."""
    scenario = Scenario(name="<calm>")
    folder = create_run(tmp_path, scenario, command=["drlctl", "techniques"], seeds=(1,), name="shown")
    far = Estimate(mean=9.0, low=8.0, high=12.0)
    effects = [make_effect("codec $x$", latency=far), make_effect("cache", accuracy=None, energy=None, link_bytes=None)]
    path = write_technique_page(folder, scenario, effects)
    assert path == folder.path / PAGE_NAME
    text = path.read_text(encoding="utf-8")
    for effect in effects:
        assert effect.technique in text
        assert effect.what in text
    assert "&lt;calm&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert (folder.plots / PLOT_NAME).read_bytes().startswith(b"\x89PNG")
