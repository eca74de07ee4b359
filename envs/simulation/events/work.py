"""What workers take and give: seconds as profiled, exits and answers as measured on each example."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.simulation.events.cargo import Cargo, Cargos
from envs.ways import right_answers
from runtime.codecs.parcel import IDENTITY, Parcel, pack
from runtime.inference.batching import affine_batch_s
from runtime.messages import Decision, Tier
from runtime.profile import Profile
from runtime.protocol.events import Computed, ComputedBatch, Run, RunBatch


class Took(NamedTuple):
    """What one run takes alone."""

    stages_s: float
    codec_s: float
    exit: int | None
    """Where the request leaves here; None when it goes on."""


class KnownAnswers:
    """The answer that each exit gives to each example, as logits: one class is certain.

    A profile says of an answer whether it is right, and not which class it names.  A right one names the example's label.  A
    wrong one names the class behind it: any will do while answers are compared with labels only.
    """

    def __init__(self, profile: Profile, split: str, labels: np.ndarray | None) -> None:
        """`labels`: of the split's examples; None where no answer is ever given to another example than its own."""
        self._profile, self._split, self._labels = profile, split, labels
        self._num_classes = max(1, len(profile.classes))
        self._logits = [pack([row]) for row in 30.0 * np.eye(self._num_classes, dtype=np.float32)[:, None]]
        self._right: dict[tuple[Decision, int], list[bool]] = {}

    def label(self, example: int) -> int:
        """Which class is right."""
        return int(self._labels[example]) if self._labels is not None else 0

    def logits(self, decision: Decision, exit: int, example: int) -> Parcel:
        """What the exit puts out for an example that was decided so."""
        key = decision, exit
        if key not in self._right:
            self._right[key] = right_answers(self._profile, decision, exit, self._split).astype(bool).tolist()
        wrong = not self._right[key][example]
        return self._logits[(self.label(example) + wrong) % self._num_classes]


class Worker:
    """One tier's worker."""

    def __init__(self, profile: Profile, tier: Tier, split: str, cargos: Cargos, answers: KnownAnswers) -> None:
        self._profile, self._tier, self._cargos, self._answers = profile, tier, cargos, answers
        taken = {name: info.exit_taken.get(split, "") for name, info in profile.variants.items()}
        self._taken = {name: [int(exit) for exit in digits] for name, digits in taken.items()}
        self._known: dict[tuple[object, ...], Took] = {}

    def compute(self, run: Run, started_at_s: float) -> Computed:
        """A run that begins now, done."""
        took = self._took(run)
        return self._computed(run, took, started_at_s, started_at_s + took.stages_s + took.codec_s, took.codec_s, int(run.start < run.stop))

    def compute_batch(self, job: RunBatch, started_at_s: float) -> ComputedBatch:
        """A batch that begins now, done: its first row's time as `affine_batch_s` has it, and everybody's codecs."""
        tooks = [self._took(row) for row in job.rows]
        codec_s = sum(took.codec_s for took in tooks)
        end_s = started_at_s + affine_batch_s(tooks[0].stages_s, job.fixed_fraction, len(job.rows)) + codec_s
        rows = tuple(
            self._computed(row, took, started_at_s, end_s, codec_s, len(job.rows)) for row, took in zip(job.rows, tooks, strict=True)
        )
        return ComputedBatch(rows=rows, at_s=end_s)

    def _computed(self, run: Run, took: Took, started_at_s: float, end_s: float, codec_s: float, batch: int) -> Computed:
        cargo = run.parcel
        assert isinstance(cargo, Cargo), "nothing else is computed on"
        assert cargo.ride.decision is not None, "work comes with its decision"
        parcel: Parcel
        if took.exit is None:
            parcel = self._cargos.make(cargo.ride, run.variant, run.stop, run.codec)
        else:
            parcel = self._answers.logits(cargo.ride.decision, took.exit, cargo.ride.example)
        return Computed(
            request_id=run.request_id,
            parcel=parcel,
            exit=took.exit,
            started_at_s=started_at_s,
            finished_at_s=end_s,
            at_s=end_s,
            codec_s=codec_s,
            batch=batch,
        )

    def _took(self, run: Run) -> Took:
        cargo = run.parcel
        assert isinstance(cargo, Cargo), "nothing else is computed on"
        leaves = self._taken[run.variant][cargo.ride.example] if run.early else None
        if leaves not in run.early:
            leaves = None
        key = run.variant, run.start, run.stop, run.exit, run.early, cargo.codec, run.codec, leaves
        if key not in self._known:
            self._known[key] = self._take(run, cargo.codec, leaves)
        return self._known[key]

    def _take(self, run: Run, codec: str, leaves: int | None) -> Took:
        """Stages and heads up to where it leaves; before them decoding, behind them encoding what goes on."""
        info, tier, profile = self._profile.variants[run.variant], self._tier, self._profile
        exit = run.exit if leaves is None else leaves
        stop = run.stop if leaves is None else profile.exit_ends[leaves]
        heads = [passed for passed in run.early if exit is None or passed <= exit]
        if exit is not None and exit not in heads:
            heads.append(exit)
        codec_s = info.codecs[codec].decode_s[tier][run.start] if codec != IDENTITY else 0.0
        if exit is None and run.codec != IDENTITY:
            codec_s += info.codecs[run.codec].encode_s[tier][run.stop]
        stages_s = sum(info.stage_s[tier][run.start : stop]) + sum(info.head_s[tier][head] for head in heads)
        return Took(stages_s, codec_s, exit)
