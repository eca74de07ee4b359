"""What is decided for a request."""

from __future__ import annotations

import msgspec

from runtime.errors import InvalidDecision
from runtime.messages.names import MAX_NAME_CHARS


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Where and how one request runs: stages [0,p) on the device, [p,q) on the edge, [q,end) in the cloud.

    `cuts` is (p, q) with 0 <= p <= q <= end, `end` being the number of stages that `exit` needs.
    Raises InvalidDecision for cuts that no model could have; `Manifest.check` does the rest.
    """

    model: str
    variant: str
    cuts: tuple[int, int]
    exit: int
    """Index of the exit branch; the last one is the full model."""
    early_exit: bool = False
    """Leave at the first exit up to `exit` that is confident: normalised entropy under the variant's calibrated threshold."""
    codec: str = "identity"
    """How tensors are written on the links (runtime/codecs)."""
    tau: int | None = None
    """Local steps between two aggregations, where a training job runs beside; None leaves it alone."""

    def __post_init__(self) -> None:
        p, q = self.cuts
        if not 0 <= p <= q:
            raise InvalidDecision(f"cuts must satisfy 0 <= p <= q, got p={p}, q={q}")
        if self.exit < 0:
            raise InvalidDecision(f"exit must be >= 0, got {self.exit}")
        if len(self.model) > MAX_NAME_CHARS or len(self.variant) > MAX_NAME_CHARS or len(self.codec) > MAX_NAME_CHARS:
            raise InvalidDecision(f"model, variant and codec names are at most {MAX_NAME_CHARS} characters long")
        if self.tau is not None and self.tau < 1:
            raise InvalidDecision(f"tau must be >= 1, got {self.tau}")

    def label(self) -> str:
        """Short text for people: `int8 x1 d2-e5`; `x<1` may leave earlier, a codec other than identity comes last."""
        p, q = self.cuts
        early, codec = "<" if self.early_exit else "", "" if self.codec == "identity" else f" {self.codec}"
        return f"{self.variant} x{early}{self.exit} d{p}-e{q}{codec}"
