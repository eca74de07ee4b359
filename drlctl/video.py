"""`drlctl video` as a function: networks are taught, nodes started, and every player reports the same frames through them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from drlctl.extras import require
from drlctl.output import Progress
from envs.scenario import Scenario
from experiments.video.agreement import f1
from experiments.video.frames import load_frames
from experiments.video.geometry import CELL, Region
from experiments.video.knobs import GOLDEN, Knobs, Look
from experiments.video.live import Application, LiveEyes, at_tier, await_tiers
from experiments.video.measure import Measured, Seen, measure
from experiments.video.play import See, play_fixed, play_oracle, play_reprofiled, survey
from experiments.video.policy import Reprofiling, cheapest
from experiments.video.pseudo_labels import background, moving_pixels, occupied_cells
from experiments.video.table import Row, row_of
from runtime.launch import launch_nodes
from runtime.messages import Tier
from runtime.models.manifest import load_manifest
from runtime.session import Session
from runtime.transport import Context

TEACHING_END = 0.4
"""Share of the progress; how many looks follow depends on what is found."""


class VideoReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `drlctl video` found."""

    folder: str
    num_teaching: int
    """The first frames: they teach the networks and measure all settings."""
    num_played: int
    """The others: what is reported of them is judged."""
    grid: tuple[int, int]
    busy: Region
    tier: Tier
    """Where every network ran."""
    policy: Reprofiling
    pseudo_label_f1: float
    """F1 of the golden answers against pseudo-labels of the played frames: no ground truth either."""
    emulation: tuple[str, ...]
    learnt: tuple[Measured, ...]
    """All settings on the teaching frames."""
    rows: tuple[Row, ...]

    def notes(self) -> list[str]:
        """What to know before the table is believed."""
        rows, columns = self.grid
        return [
            f"{self.num_played} frames are played, {self.num_teaching} before them teach the networks and measure all settings:"
            f" {'FEW, ' if self.num_played < 500 else ''}one camera, no intervals",
            f"accuracy is agreement with the golden setting over {rows}x{columns} cells of {CELL} pixels, not with the truth; the golden"
            f" answers and PSEUDO-LABELS (what moves) of the played frames have F1 {self.pseudo_label_f1:.3f}",
            f"busy region: {self.busy.rows} rows and {self.busy.columns} columns of cells from row {self.busy.top}, column"
            f" {self.busy.left}; every network runs on the {self.tier}",
            f"target: F1 {self.policy.target:g} for the least {self.policy.cost}; costs are means per frame of the camera, those of"
            " measuring settings included; energy is MODELLED, latency is a look's",
            "`fixed, as learnt` was chosen on the frames that taught the networks, where cheap ones may agree better than on others",
            "oracle: knows how each window turns out, and pays nothing to find out; a bound, not a policy",
            *self.emulation,
        ]


def play_video(
    folder: Path,
    scenario: Scenario,
    policy: Reprofiling,
    *,
    knobs: Knobs = Knobs(),  # noqa: B008  # frozen
    tier: Tier = "edge",
    seed: int = 0,
    progress: Progress,
) -> VideoReport:
    """Teach on the first half of a folder's frames, then let every player report the second half through the scenario's nodes.

    Of the scenario, the tiers and links count.  Raises InvalidDataset for a folder without enough frames, InvalidInput
    when nothing moves in them, MissingExtra without the `train` extra, SystemFailure when a node does not start.
    """
    frames = load_frames(folder, CELL)
    require("train")
    from experiments.video.teaching import teach

    half = len(frames) // 2
    application = teach(frames[:half], knobs, seed=seed, progress=lambda text, share: progress(text, share * TEACHING_END))
    with _eyes(frames, application, scenario, tier) as eyes:
        learnt, rows, golden = _play(eyes, policy, knobs, range(half), range(half, len(frames)), application.grid, progress)
    moving = moving_pixels(frames[half:], background(frames[:half]))
    return VideoReport(
        folder=str(folder),
        num_teaching=half,
        num_played=len(frames) - half,
        grid=application.grid,
        busy=application.regions["busy"],
        tier=tier,
        policy=policy,
        pseudo_label_f1=f1(occupied_cells(moving, CELL), golden),
        emulation=tuple(scenario.topology.emulation_notice()),
        learnt=learnt,
        rows=rows,
    )


def _play(
    eyes: See, policy: Reprofiling, knobs: Knobs, teaching: range, played: range, grid: tuple[int, int], progress: Progress
) -> tuple[tuple[Measured, ...], tuple[Row, ...], np.ndarray]:
    """(profile of all settings on the teaching frames, each player's figures, the golden report)"""
    blank = np.zeros(grid, dtype=np.bool_)
    see = _watched(eyes, progress)
    learnt = measure(knobs.settings, survey(knobs.looks, teaching, see), blank)
    fixed = cheapest(learnt, policy.target, policy.cost)
    golden = play_fixed("golden", GOLDEN, played, see, blank)
    others = (
        play_fixed("fixed, as learnt", fixed, played, see, blank),
        play_reprofiled("reprofiled", policy, learnt, played, see, blank),
        play_oracle("oracle", policy, knobs.settings, survey(knobs.looks, played, see), blank),
    )
    return learnt, tuple(row_of(each, golden.reports, policy.target) for each in (golden, *others)), golden.reports


@contextlib.contextmanager
def _eyes(frames: np.ndarray, application: Application, scenario: Scenario, tier: Tier) -> Iterator[LiveEyes]:
    """The scenario's nodes with all networks, and somebody who looks through them."""
    topology = scenario.topology.without_reuse()
    folders = tuple(application.model_dirs.values())
    with launch_nodes(topology, *folders) as nodes, Context() as context, Session(context, nodes.device_address) as session:
        await_tiers(session)
        yield LiveEyes(
            session,
            frames,
            application,
            at_tier(application.model_dirs, tier),
            prepare_slowdown=topology.device.slowdown_for(load_manifest(folders[0]).full_reference_s),
            compute_power=topology.compute_power,
        )


def _watched(eyes: See, progress: Progress) -> See:
    """The same eyes, with progress told."""
    taken = 0

    def see(look: Look, frame: int) -> Seen:
        nonlocal taken
        taken += 1
        progress(f"look {taken}, frame {frame}: {look.name}", min(0.99, TEACHING_END + (1 - TEACHING_END) * taken / (taken + 200)))
        return eyes(look, frame)

    return see
