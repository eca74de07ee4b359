"""The profile: what was measured of a model on a topology.  A JSON file that a person can read.

Written by the profiler from a live runtime; read by the simulator, the heuristics and the daemon.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from runtime.errors import InvalidProfile
from runtime.files import write_atomically
from runtime.host import is_disturbed
from runtime.inference.difficulty import from_levels
from runtime.loading_profile import LoadingProfile
from runtime.messages import Decision
from runtime.training.job_profile import JobProfile

SCHEMA = 1


class CodecProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One codec on the cuts of one variant, measured on real activations."""

    cut_bytes: tuple[int, ...]
    """Mean bytes on the wire of a Work message at each cut 0..S, header included."""
    encode_s: dict[str, tuple[float, ...]]
    """tier -> seconds of encoding each cut there, emulated slowdown included."""
    decode_s: dict[str, tuple[float, ...]]
    correct: dict[str, tuple[tuple[str, ...], ...]]
    """split -> cut -> exit: which examples are right when that cut is crossed so; none for a codec that loses nothing."""


class VariantProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One variant, measured."""

    stage_s: dict[str, tuple[float, ...]]
    """tier -> seconds of each stage there (median), emulated slowdown included."""
    head_s: dict[str, tuple[float, ...]]
    """tier -> seconds of each exit's head there."""
    cut_bytes: tuple[int, ...]
    """Bytes on the wire of a Work message at each cut 0..S, header included."""
    accuracy: dict[str, tuple[float, ...]]
    """split -> accuracy of each exit."""
    correct: dict[str, tuple[str, ...]]
    """split -> one string per exit, a character per example: 1 right, 0 wrong."""
    leakage: tuple[float, ...]
    """Distance correlation between the raw input and what crosses cut k, 0..S.  Cut 0 is 1.

    Source: Szekely, Rizzo, Bakirov, Annals of Statistics 2007, definition 4 (biased sample statistic).
    """
    size_bytes: int
    loaded_bytes: int = 0
    """Growth of a process's resident set when all its segments are loaded (runtime/models/loading.py); 0: not measured."""
    codecs: dict[str, CodecProfile] = {}
    """Those that the scenario allows, but identity, which needs none."""
    reconstruction_nmse: tuple[float, ...] = ()
    """Error of an attacker's reconstruction of the input from cut k, 0..S: 0 the input itself, 1 no better than the mean picture.

    Empty: not measured (`drlctl profile --privacy` does).  Source: runtime/models/reconstruction.py.
    """
    batch_fixed_fraction: float | None = None
    """Share of a run's time that a batch pays once (runtime/inference/batching.py, `affine_batch_s`); None: not measured."""
    exit_taken: dict[str, str] = {}
    """split -> a digit per example: the first exit confident of it, or the last.  Empty: confidence was not calibrated."""


class DifficultyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of each example's difficulty before anything is computed (runtime/inference/difficulty.py)."""

    targets: tuple[tuple[str, int], ...]
    """(variant, exit) whose errors are predicted, in the order in which a device tells them; none: it told no better than the base rate."""
    predicted: dict[str, tuple[str, ...]]
    """split -> a string per target, three hexadecimal digits per example: P(wrong) in 4095ths."""
    look_s: float = 0.0
    """Seconds that the device looks at an input for it, emulated slowdown included."""


class LinkProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One link, measured while idle."""

    rate_bytes_per_s: float
    delay_s: float
    """One way, small message."""


class Overheads(msgspec.Struct, frozen=True, kw_only=True):
    """What a request costs beyond compute and links: medians of live residuals, seconds."""

    base_s: float = 0.0
    """Of any request: client, decision, preprocess, queue hand-over, postprocess."""
    uplink_s: float = 0.0
    """More, when it goes to the edge."""
    wan_s: float = 0.0
    """More, when it goes on to the cloud."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured that predictions need."""

    schema: int = SCHEMA
    model: str
    scenario: str
    """The scenario whose emulation was in force."""
    scenario_digest: str
    """SHA-256 of that scenario's topology; another topology needs another profile."""
    measured_on: str
    measured_at: str
    """ISO 8601, wall clock."""
    classes: tuple[str, ...]
    exit_ends: tuple[int, ...]
    variants: dict[str, VariantProfile]
    result_bytes: int
    """Bytes on the wire of a Result message."""
    uplink: LinkProfile
    wan: LinkProfile
    overheads: Overheads
    memory_bytes: dict[str, int]
    """tier -> peak resident set of its node."""
    lookup_s: float = 0.0
    """Seconds that the device looks at a raw input for its cache, emulated slowdown included; 0: not measured."""
    thumbnail_s: float = 0.0
    """Seconds that it makes a frame's thumbnail for its filter; 0: not measured."""
    edge_lookup_s: float = 0.0
    """Seconds that the edge looks at any payload for its cache, emulated slowdown included; 0: not measured."""
    edge_lookup_s_per_byte: float = 0.0
    """And for each byte of it."""
    difficulty: DifficultyProfile | None = None
    """None: not measured, or the model is none of which it is told."""
    job: JobProfile | None = None
    """Of the training job beside the scenario's requests; None: there is none."""
    loading: LoadingProfile | None = None
    """What getting pieces of the model into memory takes; None: not measured."""
    kept_awake: bool = False
    """Whether this machine's processors were kept from resting meanwhile (runtime/awake.py)."""
    host_steal: float | None = None
    """Share of the machine's processor time that its host gave to others during the measurements that count; None: not told."""

    def steal_notice(self) -> list[str]:
        """What to think of it when the host took the processors away, whatever was tried again; nothing when it did not."""
        if self.host_steal is None or not is_disturbed(self.host_steal):
            return []
        return [
            f"the profile was measured while this machine's host took {self.host_steal:.0%} of its processor time away, in the best of"
            " several attempts: what is simulated from it is off by that; profile again when it is quieter"
        ]

    @property
    def num_stages(self) -> int:
        """S: stages of the full model."""
        return self.exit_ends[-1]

    def end(self, decision: Decision) -> int:
        """Number of stages the decision's exit needs."""
        return self.exit_ends[decision.exit]

    def needed_loading(self) -> LoadingProfile:
        """What loading takes.  Raises InvalidProfile when that was not measured."""
        if self.loading is None:
            raise InvalidProfile(f"the profile of {self.model!r} does not say what loading it takes; measure it again")
        return self.loading

    def exits_taken(self, variant: str, split: str) -> np.ndarray:
        """int64 [num_examples]: the exit at which each example leaves when it may.  Raises InvalidProfile when that was not measured."""
        digits = self.variants[variant].exit_taken.get(split, "")
        if not digits:
            raise InvalidProfile(f"the profile does not say at which exits examples of {split!r} leave {variant!r}; measure it again")
        return np.frombuffer(digits.encode(), dtype=np.uint8).astype(np.int64) - ord("0")

    def predicted_errors(self, split: str) -> np.ndarray:
        """float64 [targets, num_examples]: P(wrong) of each example, as a device tells it.  Raises InvalidProfile."""
        if self.difficulty is None or split not in self.difficulty.predicted:
            raise InvalidProfile(f"the profile does not say how hard examples of {split!r} are; measure it again")
        return from_levels(read_levels(self.difficulty.predicted[split]))


def read_levels(rows: tuple[str, ...]) -> np.ndarray:
    """uint16 [rows, N] of what `write_levels` wrote.  Raises InvalidProfile when they are no such strings of one length."""
    if not rows:
        return np.empty((0, 0), dtype=np.uint16)
    try:
        levels = np.array([[int(row[at : at + 3], 16) for at in range(0, len(row), 3)] for row in rows], dtype=np.uint16)
    except ValueError as exc:
        raise InvalidProfile(f"predicted difficulties are hexadecimal digits, rows of one length: {exc}; measure it again") from exc
    return levels


def write_levels(levels: np.ndarray) -> tuple[str, ...]:
    """Levels [rows, N] of at most 4095 -> a string per row, three hexadecimal digits per example."""
    return tuple("".join(f"{level:03x}" for level in row) for row in levels.tolist())


def read_bits(text: str) -> np.ndarray:
    """bool [N] of what `write_bits` wrote of one row."""
    bits: np.ndarray = np.frombuffer(text.encode(), dtype=np.uint8) == ord("1")
    return bits


def write_bits(correct: np.ndarray) -> tuple[str, ...]:
    """Correct [rows, N] -> a string per row, a character per example."""
    return tuple("".join("1" if right else "0" for right in row) for row in correct)


def save_profile(profile: Profile, path: Path) -> None:
    """Write atomically, as indented JSON."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")


def load_profile(path: Path) -> Profile:
    """Read a profile.  Raises InvalidProfile when it is missing, corrupt or of another schema."""
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except OSError as exc:
        raise InvalidProfile(f"cannot read profile {path}: {exc.strerror}; make one with `drlctl profile`") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidProfile(f"{path} is not a profile: {exc}") from exc
    if profile.schema != SCHEMA:
        raise InvalidProfile(f"{path} has schema {profile.schema}, this drlctl reads {SCHEMA}; measure it again")
    return profile
