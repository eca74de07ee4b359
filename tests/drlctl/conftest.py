"""Bundles on disk and running daemons for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.bundle import save_bundle
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
