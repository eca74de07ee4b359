"""Run folders: `runs/<name>/`, one per evaluation, never written over.

run.json                what was asked: command, seed, versions, when
scenario.toml           the scenario as it was played, every default written out
records.jsonl           one line per request and policy
simulated.jsonl         the same policies playing the same seeds in the simulator
learning.json           the learning curve of the evaluated agent, where there is one
jobs.json               what `drlctl fit` trains, in order
rounds.jsonl, nodes/    of a training job: one line per round, and what each node keeps to go on from
summary.json            every figure, computed from the two files above
report.html, plots/     the same for people
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

from envs.scenario import Scenario, load_scenario
from experiments.toml_text import to_toml
from runtime.errors import InvalidInput
from runtime.files import write_atomically

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LOCK_NAME = ".lock"
JOBS_NAME = "jobs.json"
"""Of a run of training jobs: what is trained."""
_PACKAGES = ("drlctl", "numpy", "msgspec", "pyzmq", "onnxruntime", "gymnasium", "torch", "stable-baselines3", "matplotlib")


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, by whom it was executed, and when."""

    name: str
    command: str
    """As one would type it again."""
    seed: int
    """The first of the run's seeds."""
    seeds: tuple[int, ...]
    created_at: str
    """ISO 8601, wall clock, UTC."""
    versions: dict[str, str]
    learned: str | None = None
    """The policy that the others are held against; None when all are heuristics."""


class RunFolder:
    """Paths of one run."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist; `create_run` makes it, `open_run` checks it."""
        self.path = path
        self.info = path / "run.json"
        self.scenario = path / "scenario.toml"
        self.records = path / "records.jsonl"
        self.simulated = path / "simulated.jsonl"
        self.learning = path / "learning.json"
        self.rounds = path / "rounds.jsonl"
        self.nodes = path / "nodes"
        self.summary = path / "summary.json"
        self.report = path / "report.html"
        self.plots = path / "plots"

    def load_info(self) -> RunInfo:
        """Read run.json.  Raises InvalidInput when this is not a run folder."""
        try:
            return msgspec.json.decode(self.info.read_bytes(), type=RunInfo)
        except OSError as exc:
            raise InvalidInput(f"{self.path} is not a run folder: cannot read run.json ({exc.strerror})") from exc
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise InvalidInput(f"{self.info} is corrupt: {exc}") from exc

    def load_scenario(self) -> Scenario:
        """The scenario as it was played.  Raises InvalidConfig."""
        return load_scenario(self.scenario)


def create_run(
    root: Path,
    scenario: Scenario,
    *,
    command: Sequence[str],
    seeds: Sequence[int],
    learned: str | None = None,
    name: str | None = None,
    now: datetime | None = None,
) -> RunFolder:
    """Make a new run folder below `root` and write what is known beforehand.  `scenario` is the played one.

    Without a name it is called after scenario and time, numbered if need be.  Raises InvalidInput for a name
    that is taken or cannot be a folder's, for no seeds or one twice; OSError when it cannot be written.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InvalidInput(f"a run needs at least one seed, and each only once, got {list(seeds)}")
    now = now or datetime.now(UTC)
    folder = _claim(root, name, f"{_safe(scenario.name)}-{now:%Y%m%d-%H%M%S}")
    info = RunInfo(
        name=folder.path.name,
        command=shlex.join(command),
        seed=seeds[0],
        seeds=tuple(seeds),
        created_at=now.isoformat(timespec="seconds"),
        versions=collect_versions(),
        learned=learned,
    )
    write_atomically(folder.info, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    write_atomically(folder.scenario, to_toml(msgspec.to_builtins(scenario)).encode())
    return folder


def open_run(path: Path) -> RunFolder:
    """A run folder that exists.  Raises InvalidInput when it is not one."""
    folder = RunFolder(path)
    folder.load_info()
    return folder


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Nobody else plays in this run's folder until the `with` block ends, or the process does, however it ends.

    Raises InvalidInput when another process plays in it; OSError when the folder cannot be written.
    """
    with (folder.path / _LOCK_NAME).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput(f"another process plays in {folder.path}: wait for its end, or stop it") from None
        yield


def collect_versions() -> dict[str, str]:
    """Versions of python, the platform and the packages that matter and are installed."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed had no part in the run
    return versions


def _claim(root: Path, name: str | None, automatic: str) -> RunFolder:
    """Create the folder; the creation itself is the test of being first."""
    if name is not None and not _NAME.fullmatch(name):
        raise InvalidInput(f"a run's name has letters, digits, '.', '_' and '-' and starts with a letter or digit, got {name!r}")
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = root / (name or (automatic if number == 1 else f"{automatic}-{number}"))
        try:
            path.mkdir()
        except FileExistsError:
            if name is not None:
                raise InvalidInput(f"run {path} exists already; choose another name or remove it") from None
            continue
        return RunFolder(path)
    raise InvalidInput(f"{root} has a thousand runs named {automatic}; give this one a name")


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "run"
