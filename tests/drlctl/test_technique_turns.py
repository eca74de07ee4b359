"""Off and on in turns, and which model is played, without starting anything."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from drlctl.building import choose_model, is_made_for, is_made_of
from drlctl.techniques import NUM_BLOCKS, in_blocks, in_turns
from envs.scenario import EvaluationConfig, load_scenario
from experiments.techniques import Technique, Trial
from runtime.errors import InvalidConfig, UnknownModel
from runtime.messages import Decision
from runtime.models.fingerprints import hash_data, hash_factory
from runtime.models.wishes import Wishes, default_name
from runtime.models.zoo import ZOO


def make_technique(name: str) -> Technique:
    trial = Trial(scenario=load_scenario("calm"), decision=Decision(model="digits-cnn", variant="fp32", cuts=(7, 7), exit=2))
    return Technique(name=name, what="", off=trial, on=trial)


def silent(text: str, share: float) -> None:
    """Nobody listens."""


def test_off_and_on_are_neighbours_and_take_turns_at_going_first() -> None:
    """In every block each technique's two settings follow each other; neither is always the first."""
    turns = in_turns([make_technique("a"), make_technique("b")], (5, 6))
    assert [(seed, name) for seed, name, _ in turns] == [
        (5, "a: off"), (5, "a: on"), (5, "b: off"), (5, "b: on"),
        (6, "a: on"), (6, "a: off"), (6, "b: on"), (6, "b: off"),
    ]  # fmt: skip


def test_blocks_hold_what_the_evaluation_would_play() -> None:
    """As many requests in all or a few more, in shorter episodes; none of them too short."""
    scenario = load_scenario("calm")
    blocks = in_blocks(scenario).evaluation
    asked = scenario.evaluation.num_requests * len(scenario.evaluation.seeds)
    assert len(set(blocks.seeds)) == NUM_BLOCKS
    assert asked <= NUM_BLOCKS * blocks.num_requests < asked + NUM_BLOCKS
    tiny = msgspec.structs.replace(scenario, evaluation=EvaluationConfig(seeds=(1,), num_requests=3))
    assert in_blocks(tiny).evaluation.num_requests >= 20


def test_names_follow_architecture_and_data(tmp_path: Path) -> None:
    """The same default wherever a model is named: by its factory, its added exits and the data's folder."""
    data = str(tmp_path / "rooms")
    assert default_name("resnet-small", data) == "resnet-small@rooms"
    assert default_name("rooms:Rooms", data, 2) == "Rooms+2@rooms"


def test_a_model_is_trained_on_data_only() -> None:
    """Neither model nor data: the scenario's own; wishes without data and unknown models are refused."""
    assert choose_model("", "", Wishes(), silent) == ""
    with pytest.raises(InvalidConfig, match="--data"):
        choose_model("", "digits-cnn", Wishes(epochs=3), silent)
    with pytest.raises(UnknownModel, match="nobody"):
        choose_model("", "nobody", Wishes(), silent)


def test_a_model_of_other_data_is_not_taken(tmp_path: Path) -> None:
    """The same folder with other pictures in it is other data; a built-in data set is known by its name."""
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    (rooms / "one.png").write_bytes(b"1")
    spec = msgspec.structs.replace(ZOO["digits-cnn"], dataset=str(rooms.resolve()), data_sha256=hash_data(rooms))
    assert is_made_for(spec, str(rooms))
    assert not is_made_for(spec, "digits")
    (rooms / "one.png").write_bytes(b"2")
    assert not is_made_for(spec, str(rooms))
    assert is_made_for(ZOO["digits-cnn"], "digits")
    assert not is_made_for(ZOO["resnet"], "digits")


def test_a_model_of_another_network_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modules may have a factory of one name, and a module may be edited; of the zoo the factory decides."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_rooms.py").write_text("def Rooms(): ...\n")
    (tmp_path / "own_halls.py").write_text("def Rooms(): ...\n")
    target = "own_rooms:Rooms"
    spec = msgspec.structs.replace(ZOO["digits-cnn"], factory=target, code_sha256=hash_factory(target))
    assert is_made_of(spec, target)
    assert not is_made_of(spec, "own_halls:Rooms")
    (tmp_path / "own_rooms.py").write_text("def Rooms():\n    return None\n")
    assert not is_made_of(spec, target)
    assert is_made_of(ZOO["resnet"], "resnet")
    assert not is_made_of(spec, "resnet")
