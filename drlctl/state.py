"""Where a running system writes its addresses, and where other commands find them.

One JSON file, written whole or not at all, removed at the end; one left behind by a killed process is known by its pid.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import psutil

from runtime.errors import InvalidConfig, PeerLost
from runtime.files import write_atomically


class RunningState(msgspec.Struct, frozen=True, kw_only=True):
    """A running system as others reach it."""

    scenario: str
    model: str
    model_dirs: tuple[str, ...]
    pid: int
    """The launcher's."""
    started_at_s: float
    """Of that process, seconds of the wall clock; tells it from a later one with the same pid."""
    addresses: dict[str, str]
    """Node -> where it listens; the first of a tier is called like the tier."""
    controller: str = ""
    """Where decisions are asked for; empty: the device decides by itself."""


def state_path(explicit: Path | None = None) -> Path:
    """The state file: `explicit`, else running.json in $DRLCTL_RUNTIME, $XDG_RUNTIME_DIR/drlctl or a folder of this user in /tmp."""
    if explicit is not None:
        return explicit
    own = os.environ.get("DRLCTL_RUNTIME", "")
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if own:
        return Path(own) / "running.json"
    if os.path.isabs(base) and os.access(base, os.W_OK):
        return Path(base) / "drlctl" / "running.json"
    return Path(tempfile.gettempdir()) / f"drlctl-{os.getuid()}" / "running.json"


def own_start_s() -> float:
    """When this process started, as `RunningState.started_at_s` wants it."""
    return float(psutil.Process().create_time())


def write_state(state: RunningState, path: Path) -> None:
    """Publish a running system.  Raises InvalidConfig when another one that still runs is published there."""
    check_unpublished(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")


def check_unpublished(path: Path) -> None:
    """Raise InvalidConfig when another process's system that still runs is published there."""
    other = read_state(path)
    if other is not None and other.pid != os.getpid():
        raise InvalidConfig(f"{path}: process {other.pid} already runs {other.scenario!r}; stop it, or give another --state file")


def read_state(path: Path) -> RunningState | None:
    """The system published there; None when there is none, or its process is gone.  Raises InvalidConfig for a file of another kind."""
    try:
        owner = path.stat().st_uid
        state = msgspec.json.decode(path.read_bytes(), type=RunningState)
    except OSError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidConfig(f"{path} is not a state file: {exc}; remove it") from exc
    if owner not in (os.getuid(), 0):
        raise InvalidConfig(f"{path} belongs to user {owner}; its addresses are not to be trusted")
    return state if _runs(state) else None


def find_running(path: Path) -> RunningState:
    """The system published there.  Raises PeerLost when none runs."""
    state = read_state(path)
    if state is None:
        raise PeerLost(f"no running system is published in {path}")
    return state


def remove_state(path: Path, pid: int) -> None:
    """Withdraw what this process published; leaves another's alone."""
    state = read_state(path)
    if state is None or state.pid == pid:
        path.unlink(missing_ok=True)


def _runs(state: RunningState) -> bool:
    try:
        return abs(float(psutil.Process(state.pid).create_time()) - state.started_at_s) < 1.0
    except psutil.Error:
        return False
