"""The state file: found while its process lives, not before and not after."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from drlctl.state import RunningState, find_running, own_start_s, read_state, remove_state, state_path, write_state
from runtime.errors import InvalidConfig, PeerLost


def make_state(pid: int | None = None, started_at_s: float | None = None) -> RunningState:
    """A system run by this process, unless said otherwise."""
    return RunningState(
        scenario="congested",
        model="digits-cnn",
        model_dirs=("/models/x",),
        pid=pid or os.getpid(),
        started_at_s=started_at_s if started_at_s is not None else own_start_s(),
        addresses={"device": "tcp://127.0.0.1:1"},
    )


def test_what_is_published_is_found(tmp_path: Path) -> None:
    """Another command reads what the launcher wrote, until it is withdrawn."""
    path = tmp_path / "deep" / "running.json"
    write_state(make_state(), path)
    assert find_running(path) == make_state()
    remove_state(path, os.getpid())
    assert not path.exists()
    with pytest.raises(PeerLost):
        find_running(path)


def test_a_dead_process_is_not_found(tmp_path: Path) -> None:
    """What a killed launcher left behind is known to be stale, and can be written over."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        state = make_state(process.pid, psutil.Process(process.pid).create_time())
        path = tmp_path / "running.json"
        path.write_bytes(msgspec.json.encode(state))
        assert read_state(path) == state
        with pytest.raises(InvalidConfig, match=str(process.pid)):
            write_state(make_state(), path)
        process.kill()
    assert read_state(path) is None
    write_state(make_state(), path)
    assert read_state(path) == make_state()


def test_a_recycled_pid_is_not_taken_for_the_launcher(tmp_path: Path) -> None:
    """The same number belongs to another process when it started at another time."""
    path = tmp_path / "running.json"
    path.write_bytes(msgspec.json.encode(make_state(started_at_s=own_start_s() - 1000)))
    assert read_state(path) is None


def test_another_launchers_file_is_left_alone(tmp_path: Path) -> None:
    """Ending does not withdraw what somebody else published meanwhile."""
    path = tmp_path / "running.json"
    write_state(make_state(), path)
    remove_state(path, os.getpid() + 1)
    assert path.exists()


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, then $DRLCTL_RUNTIME, then $XDG_RUNTIME_DIR, which must be absolute; else a folder of this user."""
    monkeypatch.setenv("DRLCTL_RUNTIME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert state_path(tmp_path / "x.json") == tmp_path / "x.json"
    assert state_path() == tmp_path / "own" / "running.json"
    monkeypatch.delenv("DRLCTL_RUNTIME")
    assert state_path() == tmp_path / "drlctl" / "running.json"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert state_path().name == "running.json"
    assert str(os.getuid()) in str(state_path())


def test_only_this_user_may_enter_the_folder(tmp_path: Path) -> None:
    """The folder that is made for it is private."""
    write_state(make_state(), tmp_path / "private" / "running.json")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
