"""Fixtures for every part: the one trained model, built once per machine and cached like a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models.build import ensure_model


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the model before the tests are timed: the first time takes a minute, more on a busy machine."""
    if not session.config.option.collectonly and any("digits_model" in getattr(item, "fixturenames", ()) for item in session.items):
        ensure_model("digits-cnn")


@pytest.fixture(scope="session")
def digits_model() -> Path:
    """Directory of the built `digits-cnn`."""
    return ensure_model("digits-cnn")
