"""What a training job takes over from a base network: its lower layers, and the answers that it would give.

The root has the base, or trains it before the first round.  What a client needs of it goes down once, with the client's first
Round; from then on only what is trained crosses the wire.
"""

from __future__ import annotations

import msgspec

from runtime.messages.learning_task import DataSpec, NetworkSpec

MAX_DIGEST_CHARS = 64
"""Of a SHA-256 in hexadecimal."""


class DistilSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much clients imitate the base's answers.  They hold the whole base for it: asking the root would show it their examples.

    Source: Hinton, Vinyals, Dean, arXiv:1503.02531, section 2.
    """

    share: float = 0.5
    """Of the imitation in the loss; the labels have the rest."""
    temperature: float = 2.0
    """Both sides' logits are divided by it: the higher, the more the wrong classes tell."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0 or not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"distillation needs a share in (0, 1] and a temperature > 0, got {self.share} and {self.temperature}")


class TransferSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which base, and what of it is used (runtime/training/transfer.py says what a layer is)."""

    frozen: int = 2
    """Lowest layers that are the base's and stay so: neither trained nor sent with updates."""
    tuned: int = 0
    """Layers above those that begin as the base's, and are trained."""
    distil: DistilSpec | None = None
    checkpoint: str = ""
    """The base's weights, at the root: the folder of an earlier run or job, or a safetensors file.  Empty: the root trains it."""
    network: NetworkSpec | None = None
    """The base's network; None: the job's own."""
    data: DataSpec | None = None
    """What the root trains the base on, all of it; None: its own part of the job's data (`root_fraction`)."""
    num_steps: int = 300
    """Minibatches that the root trains it on."""

    @property
    def clients_need_base(self) -> bool:
        """Whether something of the base must come to every client, beside the weights that it trains."""
        return self.frozen > 0 or self.distil is not None

    def __post_init__(self) -> None:
        if min(self.frozen, self.tuned) < 0 or self.num_steps < 1:
            raise ValueError(f"layers are counted from 0 and num_steps from 1, got {self.frozen}, {self.tuned} and {self.num_steps}")
        if not self.frozen and not self.tuned and self.distil is None:
            raise ValueError("a transfer takes something over: layers that are frozen or tuned, or answers to distil")
        if self.checkpoint and self.data is not None:
            raise ValueError(f"a base is found at {self.checkpoint!r} or trained on data, not both")
