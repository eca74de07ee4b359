"""A trainer whose updates leave masked, and at the root one that learns no more of them than their mean.  Needs `cryptography`."""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.training.exchange import Written
from runtime.training.masker import Masker, read_masked, unmasked_mean
from runtime.training.protocol.masking_tasks import KeysMade, KeysShared, MakeKeys, MaskingResult, Reveal, ShareKeys
from runtime.training.protocol.tasks import Aggregate, Aggregated, Decode, Decoded, LocalSteps, Prepare
from runtime.training.steps import AfterStep
from runtime.training.trainer import Trainer


class SecureTrainer(Trainer):
    """For both sides of a masked round."""

    def __init__(self, prepare: Prepare, after_step: AfterStep) -> None:
        super().__init__(prepare, after_step)
        self._masker = Masker(self.prepared.num_parameters)

    def answer_masking(self, task: MakeKeys | ShareKeys | Reveal) -> MaskingResult:
        """A step of the round's masks.  Raises what `Masker` raises."""
        match task:
            case MakeKeys():
                made: KeysMade = self._masker.make_keys(task)
                return made
            case ShareKeys():
                shared: KeysShared = self._masker.share_keys(task)
                return shared
            case Reveal():
                return self._masker.reveal(task)

    def decode(self, task: Decode) -> Decoded:
        """Read a masked contribution, which nobody can understand."""
        return read_masked(task, self.prepared.num_parameters)

    def aggregate(self, task: Aggregate) -> Aggregated:
        """New weights of the unmasked mean.  Raises what `unmasked_mean` raises."""
        assert task.unmask is not None, "a masked round is unmasked with its aggregation"
        mean = unmasked_mean(task.unmask, task.updates, self.prepared.num_parameters)
        return super().aggregate(msgspec.structs.replace(task, updates=(mean,), unmask=None))

    def _write(self, update: np.ndarray, gradient: np.ndarray | None, task: LocalSteps) -> Written:
        return Written(b"", self._masker.mask(update, task.round, task.sealed))
