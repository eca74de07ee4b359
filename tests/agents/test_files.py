"""A folder is replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import files
from agents.files import replace_directory


def _content(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    """Parents are made, and nothing else is left behind."""
    replace_directory(tmp_path / "deep" / "bundle", {"a": b"1", "b": b"2"})
    assert _content(tmp_path / "deep" / "bundle") == {"a": b"1", "b": b"2"}
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["bundle"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_old_folder_is_replaced_by_exactly_the_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    """Old files do not survive in the new folder, with or without a kernel that exchanges folders."""
    if not can_exchange:
        monkeypatch.setattr(files, "_RENAME_EXCHANGE", 1 << 20)  # the kernel answers EINVAL to a flag it does not know
    path = tmp_path / "bundle"
    replace_directory(path, {"a": b"old", "stale": b"old"})
    replace_directory(path, {"a": b"new"})
    assert _content(path) == {"a": b"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_a_failed_write_keeps_the_old_folder(tmp_path: Path) -> None:
    """When a file cannot be written, the old folder stays as it was and no rubbish is left."""
    path = tmp_path / "bundle"
    replace_directory(path, {"a": b"old"})
    with pytest.raises(OSError, match="too long"):
        replace_directory(path, {"a": b"new", "x" * 300: b""})
    assert _content(path) == {"a": b"old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]
