"""Bundles on disk and running daemons for the tests of this folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner

from agents.bundle import save_bundle
from drlctl.cli import app
from tests.drlctl.bundles import make_bundle
from tests.drlctl.processes import Asker, DaemonProcess, asker, daemon


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """A sound bundle in a folder."""
    save_bundle(make_bundle(), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for a module's tests that leave it as it was, but for its counters."""
    path = tmp_path_factory.mktemp("shared") / "bundle"
    save_bundle(make_bundle(), path)
    with daemon(path) as process:
        yield process


@pytest.fixture
def peer(shared: DaemonProcess) -> Iterator[Asker]:
    """A client of the shared daemon."""
    with asker(shared.address) as client:
        yield client


@pytest.fixture
def running(bundle_path: Path) -> Iterator[DaemonProcess]:
    """A daemon of this test's own that serves it."""
    with daemon(bundle_path) as process:
        yield process


@pytest.fixture
def client(running: DaemonProcess) -> Iterator[Asker]:
    """A client of that daemon."""
    with asker(running.address) as client:
        yield client


class RunHere(Protocol):
    """`drlctl ARGUMENTS...` in this process: for errors that need no process of their own, many times quicker."""

    def __call__(self, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunHere]:
    before, handler = set(sys.modules), signal.getsignal(signal.SIGTERM)

    def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "path", [*sys.path])
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(app, list(arguments))
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    yield run
    signal.signal(signal.SIGTERM, handler)
    for name in {name for name in set(sys.modules) - before if name.startswith("own_")}:
        del sys.modules[name]
