"""Memory of a loaded variant, measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import UnknownModel
from runtime.models.loading import loaded_bytes, main


@pytest.mark.slow
def test_a_loaded_variant_takes_memory(tiny_cache: Path) -> None:
    """More than nothing, and less than a node has."""
    (directory,) = (path for path in (tiny_cache / "models").iterdir() if path.is_dir())
    assert 100_000 < loaded_bytes(directory, "fp32") < 500_000_000


def test_unknown_variants_are_refused(tiny_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the function with an error, by the process with its exit code and one line."""
    (directory,) = (path for path in (tiny_cache / "models").iterdir() if path.is_dir())
    with pytest.raises(UnknownModel, match="fp64"):
        loaded_bytes(directory, "fp64")
    assert main([str(directory), "fp64"]) == UnknownModel.exit_code
    assert capsys.readouterr().err.startswith("error: ")
