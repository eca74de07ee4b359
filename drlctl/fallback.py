"""What a device node decides with when its controller does not answer in time: greedy on a cost model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from agents.bundle import load_bundle
from agents.heuristics.greedy import Greedy
from envs.costs import CostModel
from runtime.errors import InvalidProfile
from runtime.files import write_atomically
from runtime.messages import Decision, Observation


def save_cost_model(cost_model: CostModel, path: Path) -> None:
    """Write atomically, as indented JSON."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(cost_model), indent=2) + b"\n")


def load_cost_model(path: Path) -> CostModel:
    """Read a cost model: a JSON file, or the one inside a bundle's folder.  Raises InvalidProfile or InvalidBundle."""
    if path.is_dir():
        return load_bundle(path).manifest.cost_model
    try:
        return msgspec.json.decode(path.read_bytes(), type=CostModel)
    except OSError as exc:
        raise InvalidProfile(f"cannot read cost model {path}: {exc.strerror}") from exc
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise InvalidProfile(f"{path} is not a cost model: {exc}") from exc


def greedy_fallback(path: Path, model: str) -> Callable[[Observation], Decision]:
    """Greedy on the cost model in a file or bundle; it always has an answer, if need be by the average input's errors.

    Raises what `load_cost_model` raises, and InvalidProfile for a cost model of another model than the device decides for with it, or
    one in which every decision leaves the device.
    """
    cost_model = load_cost_model(path)
    if cost_model.model != model:
        raise InvalidProfile(f"{path} is a cost model of {cost_model.model!r}, the device's first model is {model!r}: give that one's")
    if all(num_bytes > 0 for num_bytes in cost_model.uplink_bytes):
        raise InvalidProfile(f"{path} has no decision that stays on the device: nothing would be left with the edge down")
    greedy, num_told = Greedy(cost_model), len(cost_model.difficulty)

    def decide(observation: Observation) -> Decision:
        if len(observation.difficulty) != num_told:  # of another predictor: it says nothing of these exits
            observation = msgspec.structs.replace(observation, difficulty=())
        return greedy.decide(observation)

    return decide
