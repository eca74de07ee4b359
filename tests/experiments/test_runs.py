"""Run folders: never written over, and enough to play the run again."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.scenario import Scenario, load_scenario, shipped_scenarios
from experiments.runs import collect_versions, create_run, held, open_run
from experiments.toml_text import to_toml
from runtime.errors import InvalidInput
from tests.experiments.worlds import toy_scenario

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def test_a_run_says_what_was_asked(tmp_path: Path) -> None:
    """Command as typed, seeds, versions, time and the scenario."""
    scenario = toy_scenario()
    command = ["drlctl", "evaluate", "my file.toml"]
    folder = create_run(tmp_path / "runs", scenario, command=command, seeds=(5, 6), learned="learned", now=NOON)
    assert folder.path.name == "toy-20260102-120000"
    info = open_run(folder.path).load_info()
    assert (info.command, info.seed, info.seeds, info.learned) == ("drlctl evaluate 'my file.toml'", 5, (5, 6), "learned")
    assert info.created_at == "2026-01-02T12:00:00+00:00"
    assert {"python", "numpy"} <= info.versions.keys()
    assert folder.load_scenario() == scenario


def test_automatic_names_never_meet(tmp_path: Path) -> None:
    """Three runs in one second are three folders."""
    names = [create_run(tmp_path, toy_scenario(), command=["x"], seeds=(1,), now=NOON).path.name for _ in range(3)]
    assert names == ["toy-20260102-120000", "toy-20260102-120000-2", "toy-20260102-120000-3"]


def test_a_given_name_is_never_written_over(tmp_path: Path) -> None:
    """The second run of that name is refused and the first is untouched."""
    folder = create_run(tmp_path, toy_scenario(), command=["first"], seeds=(1,), name="mine")
    with pytest.raises(InvalidInput, match="exists already"):
        create_run(tmp_path, toy_scenario(), command=["second"], seeds=(1,), name="mine")
    assert folder.load_info().command == "first"


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "-rf", "a b", "x" * 101, "a\n", "é"])
def test_names_that_are_no_folder(tmp_path: Path, name: str) -> None:
    """A run's name cannot leave the runs folder, nor look like an option."""
    with pytest.raises(InvalidInput, match="a run's name"):
        create_run(tmp_path, toy_scenario(), command=["x"], seeds=(1,), name=name)
    assert list(tmp_path.iterdir()) == []


def test_odd_scenario_names_make_plain_folders(tmp_path: Path) -> None:
    """Whatever a scenario is called, its run folder stays where it belongs."""
    scenario = msgspec.structs.replace(toy_scenario(), name="../../etc/ passwd é")
    folder = create_run(tmp_path, scenario, command=["x"], seeds=(1,), now=NOON)
    assert folder.path.parent == tmp_path
    assert folder.path.name == "etc-passwd-20260102-120000"


def test_a_run_needs_seeds(tmp_path: Path) -> None:
    """Nothing is created without them, nor for one that would count twice."""
    for seeds in ((), (1, 2, 1)):
        with pytest.raises(InvalidInput, match="at least one seed, and each only once"):
            create_run(tmp_path / "runs", toy_scenario(), command=["x"], seeds=seeds)
    assert not (tmp_path / "runs").exists()


def test_other_folders_are_not_runs(tmp_path: Path) -> None:
    """Missing or corrupt run.json is said."""
    with pytest.raises(InvalidInput, match="not a run folder"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_bytes(b"\xff{")
    with pytest.raises(InvalidInput, match="corrupt"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", shipped_scenarios())
def test_shipped_scenarios_survive_the_copy(name: str) -> None:
    """scenario.toml reads back as the scenario, with all its links and rates."""
    scenario = load_scenario(name)
    assert msgspec.convert(tomllib.loads(to_toml(msgspec.to_builtins(scenario))), Scenario) == scenario


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = st.text("aé .\"'-_\n", max_size=4)
SCALARS = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_toml_reads_back(data: dict[str, Any]) -> None:
    """Any plain data, odd keys, control characters and infinities included."""
    assert tomllib.loads(to_toml(data)) == data


def test_toml_leaves_none_out_and_refuses_objects() -> None:
    """TOML has no null; a thing that is no data is a bug."""
    assert to_toml({"a": None, "b": {"c": None}}) == "[b]\n"
    with pytest.raises(TypeError, match="object"):
        to_toml({"a": object()})


def test_a_folder_is_played_in_by_one_at_a_time(tmp_path: Path) -> None:
    """Two that go on with the same run would write the same nodes' states; the second is told, and may when the first is done."""
    folder = create_run(tmp_path, toy_scenario(), command=["drlctl"], seeds=[1])
    with held(folder), pytest.raises(InvalidInput, match="another process plays in"), held(folder):
        pass
    with held(folder):
        pass


def test_versions_are_of_what_is_installed() -> None:
    """Extras that are missing are left out."""
    assert all(isinstance(version, str) and version for version in collect_versions().values())
