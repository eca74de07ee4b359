"""Watches training: evaluates now and then, writes the curve, and keeps the best network as a bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms import scorer_of
from agents.bundle import Bundle, BundleManifest
from agents.heldout import Chooser, HeldOut
from agents.network import Float32, ScoringNetwork
from agents.runfolder import CHECKPOINT_NAME, CurvePoint, RunFolder
from envs.features import Features

Progress = Callable[[CurvePoint], None]


class Lesson(NamedTuple):
    """What of a bundle is being learned, by an agent of its own: how requests are decided, or a job's taus."""

    prefix: str
    """Of its arrays in the bundle."""
    others: dict[str, Float32]
    """The bundle's other arrays."""
    num_steps: int
    checkpoint: str = CHECKPOINT_NAME
    first_step: int = 0
    """Of the run, that is the lesson's first."""


class Keeper(BaseCallback):
    """A stable-baselines3 callback.  After learning, `best` is the network that did best on the held-out episodes."""

    def __init__(
        self,
        held_out: HeldOut,
        manifest: BundleManifest,
        folder: RunFolder,
        lesson: Lesson,
        num_evaluations: int,
        progress: Progress | None,
    ) -> None:
        """`manifest` carries the reference scores."""
        super().__init__()
        self._held_out, self._manifest, self._folder, self._progress = held_out, manifest, folder, progress
        self._num_evaluations = num_evaluations
        self.curve: list[CurvePoint] = []
        self.best: Bundle | None = None
        self.seconds, self._started_at_s = 0.0, 0.0
        self.begin(lesson)

    def begin(self, lesson: Lesson) -> None:
        """What is learned from now on; what was best before stays in force until it is beaten."""
        self.lesson = lesson
        self._due = np.linspace(0, lesson.num_steps, self._num_evaluations + 1)[1:].astype(int).tolist()

    def resume(self, timesteps: int) -> None:
        """Go on from a folder whose checkpoint of the lesson has done so many steps.

        Raises InvalidBundle when its bundle is corrupt, or decides for another catalogue.
        """
        self.load()
        self.curve = self._folder.rewind_curve(self.lesson.first_step + timesteps)
        self.seconds = self.curve[-1].seconds if self.curve else 0.0
        self._due = [due for due in self._due if due > timesteps]

    def load(self) -> Bundle:
        """The folder's bundle becomes the best.  Raises as `resume`."""
        self.best = self._folder.load_bundle()
        self.best.check_catalogue(self._manifest.catalogue_digest)
        self.best.check_taus(self._manifest.cost_model.job)
        return self.best

    def _on_training_start(self) -> None:
        if not self.curve:
            self._evaluate()
        self._started_at_s = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Between an update and the next rollout the network is what all steps so far have made of it.
        if self._due and self.num_timesteps >= self._due[0]:
            self._pause()

    def _on_training_end(self) -> None:
        if self._due:
            self._pause()

    def _pause(self) -> None:
        self.seconds += time.perf_counter() - self._started_at_s
        self._due = [due for due in self._due if due > self.num_timesteps]
        self._evaluate()
        self._folder.save_checkpoint(self.model, self.lesson.checkpoint)
        self._started_at_s = time.perf_counter()

    def _evaluate(self) -> None:
        learned = {self.lesson.prefix + name: array for name, array in scorer_of(self.model).arrays().items()}
        arrays = learned | self.lesson.others
        bundle = Bundle(manifest=self._manifest, arrays=arrays)
        cost = float(self._held_out.costs(network_chooser(bundle.network(), bundle.tau_network())).mean())
        is_best = self.best is None or cost < self.best.manifest.scores["learned"]
        if is_best:
            manifest = msgspec.structs.replace(self._manifest, scores={**self._manifest.scores, "learned": cost})
            self.best = self._folder.save_bundle(Bundle(manifest=manifest, arrays=arrays))
        point = CurvePoint(
            timesteps=self.lesson.first_step + self.num_timesteps,
            seconds=round(self.seconds, 3),
            learned_cost=cost,
            greedy_cost=self._manifest.scores["greedy"],
            is_best=is_best,
        )
        self.curve.append(point)
        self._folder.append(point)
        if self._progress is not None:
            self._progress(point)


def network_chooser(network: ScoringNetwork, tau_network: ScoringNetwork | None = None) -> Chooser:
    """Decide by the highest score, and so the tau where there is a network for it."""

    def choose(features: Features) -> NDArray[Any]:
        decisions: NDArray[Any] = network.logits_batch(features.state, features.candidates, features.mask).argmax(axis=1)
        if tau_network is None or features.taus is None or features.tau_mask is None:
            return decisions
        return np.stack([decisions, tau_network.logits_batch(features.state, features.taus, features.tau_mask).argmax(axis=1)], axis=1)

    return choose
