"""Watches training: evaluates now and then, writes the curve, and keeps the best network as a bundle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms import scorer_of, tau_scorer_of
from agents.bundle import TAU_PREFIX, Bundle, BundleManifest
from agents.heldout import Chooser, HeldOut
from agents.network import ScoringNetwork
from agents.runfolder import CurvePoint, RunFolder
from envs.features import Features

Progress = Callable[[CurvePoint], None]


class Keeper(BaseCallback):
    """A stable-baselines3 callback.  After learning, `best` is the network that did best on the held-out episodes."""

    def __init__(self, held_out: HeldOut, manifest: BundleManifest, folder: RunFolder, due: list[int], progress: Progress | None) -> None:
        """`due`: evaluate when so many steps are done, rising.  `manifest` carries the reference scores."""
        super().__init__()
        self._held_out, self._manifest, self._folder, self._progress = held_out, manifest, folder, progress
        self._due = list(due)
        self.curve: list[CurvePoint] = []
        self.best: Bundle | None = None
        self.seconds, self._started_at_s = 0.0, 0.0

    def resume(self, timesteps: int) -> None:
        """Go on from a folder whose checkpoint has done so many steps.

        Raises InvalidBundle when its bundle is corrupt, or decides for another catalogue.
        """
        self.best = self._folder.load_bundle()
        self.best.check_catalogue(self._manifest.catalogue_digest)
        self.best.check_taus(self._manifest.cost_model.job)
        self.curve = self._folder.rewind_curve(timesteps)
        self.seconds = self.curve[-1].seconds if self.curve else 0.0
        self._due = [due for due in self._due if due > timesteps]

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
        self._folder.save_checkpoint(self.model)
        self._started_at_s = time.perf_counter()

    def _evaluate(self) -> None:
        arrays, tau_scorer = scorer_of(self.model).arrays(), tau_scorer_of(self.model)
        if tau_scorer is not None:
            arrays |= {TAU_PREFIX + name: array for name, array in tau_scorer.arrays().items()}
        bundle = Bundle(manifest=self._manifest, arrays=arrays)
        cost = float(self._held_out.costs(network_chooser(bundle.network(), bundle.tau_network())).mean())
        is_best = self.best is None or cost < self.best.manifest.scores["learned"]
        if is_best:
            manifest = msgspec.structs.replace(self._manifest, scores={**self._manifest.scores, "learned": cost})
            self.best = self._folder.save_bundle(Bundle(manifest=manifest, arrays=arrays))
        point = CurvePoint(
            timesteps=self.num_timesteps,
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
