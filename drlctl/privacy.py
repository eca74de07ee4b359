"""`drlctl profile --privacy`: what an attacker reconstructs at each cut, and pictures of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import MissingExtra, UnknownModel
from runtime.files import write_atomically
from runtime.inference.engine import Engine
from runtime.models.registry import find_spec
from runtime.profile import Profile

try:
    from runtime.models.datasets import load_dataset
    from runtime.models.datasets.splitting import SplitSpec
    from runtime.models.privacy import CutPrivacy, measure_privacy
    from runtime.models.reconstruction import AttackSpec
except ModuleNotFoundError as exc:
    raise MissingExtra(f"measuring privacy trains an attacker and needs {exc.name}: pip install 'drlctl[train]'") from exc

log = logging.getLogger(__name__)

NUM_SHOWN = 10
"""Pictures in a row of the PNG."""
Progress = Callable[[str, float], None]
Privacy = dict[str, tuple[CutPrivacy, ...]]
"""Variant -> cuts."""


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """A model under attack."""

    unseen: np.ndarray
    """The victims' pictures, uint8 [N, 1, C, H, W]."""
    privacy: Privacy

    def fill_in(self, profile: Profile) -> Profile:
        """The profile with `reconstruction_nmse` of every variant."""
        variants = {
            name: msgspec.structs.replace(info, reconstruction_nmse=tuple(cut.nmse for cut in self.privacy[name]))
            for name, info in profile.variants.items()
        }
        return msgspec.structs.replace(profile, variants=variants)

    def rows(self) -> list[tuple[str, ...]]:
        """For a table: cut, distance correlation, NMSE, SSIM, what attacked, seconds of training."""
        return [
            (
                f"{variant} {cut.cut}",
                f"{cut.leakage:.3f}",
                f"{cut.nmse:.3f}",
                f"{cut.ssim:.3f}",
                cut.method or "itself",
                f"{cut.attack_s:.1f}",
            )
            for variant, cuts in self.privacy.items()
            for cut in cuts
        ]

    def save_pictures(self, profile_path: Path) -> list[Path]:
        """One PNG per variant beside the profile.  None, with a warning, where matplotlib is not installed."""
        try:
            from experiments.plots.privacy import reconstruction_grid
            from experiments.plots.style import LIGHT
        except MissingExtra as exc:
            log.warning("%s", exc)
            return []
        paths, originals = [], self.unseen[:NUM_SHOWN, 0] / 255.0
        for variant, cuts in self.privacy.items():
            rows = [(f"cut {cut.cut}\nNMSE {cut.nmse:.2f}", cut.guesses[:NUM_SHOWN]) for cut in cuts[1:]]
            paths.append(profile_path.with_name(f"{profile_path.stem}-reconstructed-{variant}.png"))
            write_atomically(paths[-1], reconstruction_grid(originals, rows, LIGHT))
        return paths


def attack_model(directory: Path, progress: Progress, spec: AttackSpec | None = None) -> Attacked:
    """Attack every cut of every variant: the attacker has the training pictures, the victims' are those of the test part.

    Raises UnknownModel for a model that was not trained on pictures.
    """
    engine = Engine(directory)
    manifest = engine.manifest
    if not manifest.dataset:
        raise UnknownModel(f"{manifest.model!r} was not trained on any data: there are no pictures to reconstruct")
    splits = load_dataset(manifest.dataset, SplitSpec(seed=find_spec(manifest.model).fit.seed)).splits
    own, unseen = splits["train"].images, splits["test"].images
    privacy: Privacy = {}
    for number, variant in enumerate(manifest.variants):

        def say(text: str, share: float, done: int = number) -> None:
            progress(text, (done + share) / len(manifest.variants))

        privacy[variant] = measure_privacy(engine, variant, own, unseen, spec=spec, progress=say)
    return Attacked(unseen=unseen, privacy=privacy)
