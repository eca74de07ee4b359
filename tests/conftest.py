"""Fixtures for every part: the one trained model, built once per machine and cached like a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models.build import ensure_model

LIVE = ("test_live", "tests/drlctl/", "conformance/test_systems")
"""Parts of the ids of tests that start nodes or daemons."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the model before the tests are timed: the first time takes a minute, more on a busy machine."""
    if not session.config.option.collectonly and any("digits_model" in getattr(item, "fixturenames", ()) for item in session.items):
        ensure_model("digits-cnn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `make test`, two processes at once: whatever keeps time with live nodes runs one at a time, in the first of them."""
    for item in items:
        live = any(part in item.nodeid for part in LIVE)
        item.add_marker(pytest.mark.xdist_group("live" if live else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def digits_model() -> Path:
    """Directory of the built `digits-cnn`."""
    return ensure_model("digits-cnn")
