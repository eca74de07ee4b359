"""The folder of a training run, written while the run goes on, so that a crash loses only what came after the last checkpoint.

run.json          what was asked for
curve.jsonl       one line per evaluation on held-out episodes: learned cost against greedy's
checkpoint.zip    stable-baselines3's own format, to resume from.  Loading one can run code that somebody put
                  into it, so it is read by nothing but `train(..., resume=True)`; taus.zip is the agent's that learns taus
bundle/           the best network so far, deployable (agents/bundle.py)
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.bundle import Bundle, load_bundle, save_bundle
from agents.configs import Algorithm, DQNConfig, PPOConfig
from envs.scenario import Scenario
from runtime.files import write_atomically

RUN_NAME, CURVE_NAME, CHECKPOINT_NAME, TAUS_NAME, BUNDLE_NAME = "run.json", "curve.jsonl", "checkpoint.zip", "taus.zip", "bundle"


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked for: enough to ask again."""

    scenario: Scenario
    algo: Algorithm
    seed: int
    timesteps: int
    num_envs: int
    config: PPOConfig | DQNConfig


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation during training."""

    timesteps: int
    seconds: float
    """Of training so far, evaluations left out."""
    learned_cost: float
    """Mean cost per request on the held-out episodes."""
    greedy_cost: float
    """Of greedy on the same episodes."""
    is_best: bool


class RunFolder:
    """Reads and writes the folder's files.  Raises OSError when the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def bundle_path(self) -> Path:
        """The deployable bundle."""
        return self.path / BUNDLE_NAME

    def can_resume(self, name: str) -> bool:
        """Whether there is a checkpoint of this name to go on from."""
        return (self.path / name).exists() and self.bundle_path.exists()

    def begin(self, request: RunRequest) -> None:
        """Start a new run: note what was asked for, drop an older run's curve and checkpoint."""
        for name in (CURVE_NAME, CHECKPOINT_NAME, TAUS_NAME):
            (self.path / name).unlink(missing_ok=True)
        write_atomically(self.path / RUN_NAME, msgspec.json.format(msgspec.json.encode(request), indent=2) + b"\n")

    def save_bundle(self, bundle: Bundle) -> Bundle:
        """Keep this as the best; gives it with its digests."""
        return save_bundle(bundle, self.bundle_path)

    def load_bundle(self) -> Bundle:
        """The best so far.  Raises InvalidBundle."""
        return load_bundle(self.bundle_path)

    def save_checkpoint(self, agent: BaseAlgorithm, name: str) -> None:
        """Keep the agent with its optimiser; the old checkpoint stays until the new one is whole."""
        temporary = self.path / f".new-{name}"
        agent.save(temporary)
        os.replace(temporary, self.path / name)

    def append(self, point: CurvePoint) -> None:
        """Add a line to the curve."""
        with (self.path / CURVE_NAME).open("ab") as file:
            file.write(msgspec.json.encode(point) + b"\n")

    def rewind_curve(self, timesteps: int) -> list[CurvePoint]:
        """The curve up to `timesteps`; what a crash left behind that, torn lines too, is cut off the file."""
        path, points = self.path / CURVE_NAME, list[CurvePoint]()
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                point = msgspec.json.decode(line, type=CurvePoint)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                break
            if point.timesteps <= timesteps:
                points.append(point)
        write_atomically(path, b"".join(msgspec.json.encode(point) + b"\n" for point in points))
        return points
