"""The learning curve of the agent that a run evaluates, kept beside the run so that its report can be made again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.errors import InvalidInput
from runtime.files import write_atomically


class LearningCurve(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent's mean cost per request fell while it trained, in the simulator."""

    timesteps: tuple[int, ...]
    """Environment steps, rising."""
    cost: tuple[float, ...]
    low: tuple[float, ...] = ()
    """Lower end of a band around `cost`, where known."""
    high: tuple[float, ...] = ()
    baselines: dict[str, float] = {}
    """Heuristic -> its mean cost on the same simulated episodes."""

    def __post_init__(self) -> None:
        if len(self.cost) != len(self.timesteps) or any(len(band) not in (0, len(self.cost)) for band in (self.low, self.high)):
            raise ValueError(f"a learning curve needs as many costs as timesteps, got {len(self.cost)} and {len(self.timesteps)}")


class _Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What this module needs of a line of a training run's curve.jsonl."""

    timesteps: int
    learned_cost: float
    greedy_cost: float


def read_training_curve(path: Path, baselines: dict[str, float] | None = None) -> LearningCurve:
    """The curve that a training run wrote (curve.jsonl); `baselines` adds heuristics' costs on the same episodes.

    A torn last line is left out, as training may have been stopped.  Raises InvalidInput for any other bad line.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidInput(f"cannot read learning curve {path}: {exc.strerror}") from exc
    whole = data[: data.rfind(b"\n") + 1]
    try:
        points = [msgspec.json.decode(line, type=_Evaluation) for line in whole.splitlines()]
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{path} is not a learning curve: {exc}") from exc
    greedy = {"greedy": points[-1].greedy_cost} if points else {}
    return LearningCurve(
        timesteps=tuple(point.timesteps for point in points),
        cost=tuple(point.learned_cost for point in points),
        baselines={**greedy, **(baselines or {})},
    )


def save_learning(curve: LearningCurve, path: Path) -> None:
    """Write atomically."""
    write_atomically(path, msgspec.json.encode(curve) + b"\n")


def load_learning(path: Path) -> LearningCurve | None:
    """Read a curve; None when there is no such file.  Raises InvalidInput when it is corrupt."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LearningCurve)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{path} is not a learning curve: {exc}") from exc
