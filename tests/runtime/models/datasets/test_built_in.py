"""Built-in data: read again from the cache as it was made, without the library that it comes with."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.models.datasets import digits, load_dataset
from runtime.models.datasets.splitting import SplitSpec
from runtime.models.examples import Examples

READ = """
import hashlib, sys
from runtime.models.datasets import load_dataset
test = load_dataset("digits").splits["test"]
print(hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest(), "sklearn" in sys.modules)
"""


@pytest.fixture(scope="module")
def splits() -> dict[str, Examples]:
    """The data as the library has them."""
    return digits.load_splits(0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has them."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("DRLCTL_CACHE", str(cache))
        load_dataset("digits")
    return cache


def assert_same(got: dict[str, Examples], expected: dict[str, Examples]) -> None:
    """To the last byte, in dtype and order."""
    assert list(got) == list(expected)
    for name, part in expected.items():
        for kind in ("images", "labels"):
            assert getattr(got[name], kind).dtype == getattr(part, kind).dtype
            np.testing.assert_array_equal(getattr(got[name], kind), getattr(part, kind))


def test_what_is_kept_is_what_was_made(filled: Path, splits: dict[str, Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again, also by a process that never imports the library; another seed is another file."""
    monkeypatch.setenv("DRLCTL_CACHE", str(filled))
    read = load_dataset("digits")
    assert read.classes == digits.CLASSES
    assert_same(read.splits, splits)
    test = splits["test"]
    ran = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4])
    assert ran.stdout.split() == [hashlib.sha256(test.images.tobytes() + test.labels.tobytes()).hexdigest(), "False"]
    assert_same(load_dataset("digits", SplitSpec(seed=3)).splits, digits.load_splits(3))
    assert len(list((filled / "datasets").iterdir())) == 2


@pytest.mark.parametrize("damage", ["torn", "flipped", "foreign", "empty"])
def test_a_damaged_file_is_made_again(
    filled: Path,
    splits: dict[str, Examples],
    damage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said, the data are right, and the next one to ask finds a whole file."""
    shutil.copytree(filled, tmp_path / "cache")
    monkeypatch.setenv("DRLCTL_CACHE", str(tmp_path / "cache"))
    (path,) = (tmp_path / "cache" / "datasets").glob("digits-0-*")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"torn": whole[:-1000], "flipped": flipped, "foreign": b"nonsense", "empty": b""}[damage])
    assert_same(load_dataset("digits").splits, splits)
    assert "is damaged and made again" in caplog.text
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_only_time(
    splits: dict[str, Examples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The data are there all the same, with a warning."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DRLCTL_CACHE", str(tmp_path / "file" / "cache"))
    assert_same(load_dataset("digits").splits, splits)
    assert "is not kept" in caplog.text
