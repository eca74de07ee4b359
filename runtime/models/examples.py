"""A model's labelled pictures and what each exit makes of them, in one file beside the manifest.  Numpy only."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.lib.npyio import NpzFile

from runtime.errors import UnknownModel
from runtime.messages import TensorSpec

EXAMPLES_NAME = "examples.npz"
SPLITS = ("validation", "test")


class Examples(msgspec.Struct, frozen=True, kw_only=True):
    """One split: inputs as the model takes them, and what they show."""

    images: np.ndarray
    """[N, 1, ...] of the model's input dtype, pictures uint8 [N, 1, C, H, W]; images[i] is one request's input."""
    labels: np.ndarray
    """int64 [N], indices into the manifest's classes; -1 where the model has none.  In training also [N, ...]: one for every place."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the exits of one variant make of N examples."""

    correct: np.ndarray
    """uint8 [num_exits, N]: 1 where the exit is right."""
    entropies: np.ndarray
    """float64 [num_exits, N]: normalised entropy of its logits (runtime/inference/confidence.py)."""


def load_examples(directory: Path, split: str) -> Examples:
    """A split, "validation" or "test".  Raises UnknownModel when it is not there or the file is corrupt."""
    arrays = _load(directory, f"{split}_images", f"{split}_labels")
    return Examples(images=arrays[0], labels=arrays[1])


def has_labels(directory: Path, split: str) -> bool:
    """Whether anything is known to be right or wrong about them: not of random ones.  Raises UnknownModel like `load_examples`."""
    (labels,) = _load(directory, f"{split}_labels")
    return bool(np.any(labels >= 0))


def load_judgement(directory: Path, split: str, variant: str) -> Judgement:
    """What the variant's exits make of a split.  Raises UnknownModel like `load_examples`."""
    correct, entropies = _load(directory, f"correct_{split}_{variant}", f"entropies_{split}_{variant}")
    return Judgement(correct=correct, entropies=entropies)


def save_examples(directory: Path, examples: dict[str, Examples], judged: dict[str, dict[str, Judgement]]) -> None:
    """Write splits and, for each split and variant, what its exits make of them."""
    arrays: dict[str, np.ndarray] = {}
    for split, part in examples.items():
        arrays[f"{split}_images"] = part.images
        arrays[f"{split}_labels"] = part.labels
        for variant, judgement in judged[split].items():
            arrays[f"correct_{split}_{variant}"] = judgement.correct
            arrays[f"entropies_{split}_{variant}"] = judgement.entropies
    with (directory / EXAMPLES_NAME).open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def draw_examples(spec: TensorSpec, num: int, rng: np.random.Generator) -> Examples:
    """Random inputs for a model without data: floats are standard normal, bytes anything from 0 up that fits.

    Integers of more bytes are taken for indices, of tokens say: 0 or 1, which every table has.
    """
    shape, dtype = (num, *spec.shape), np.dtype(spec.dtype)
    highest = 1 if dtype.itemsize > 1 else np.iinfo(dtype).max
    drawn = rng.normal(size=shape) if dtype.kind == "f" else rng.integers(0, highest + 1, shape)
    return Examples(images=drawn.astype(dtype), labels=np.full(num, -1, dtype=np.int64))


def _load(directory: Path, *names: str) -> list[np.ndarray]:
    path = directory / EXAMPLES_NAME
    try:
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except KeyError as exc:
        raise UnknownModel(f"{path} has no {exc}; the splits are {', '.join(SPLITS)}") from exc
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise UnknownModel(f"cannot read the examples in {path}: {exc}; remove the folder to have the model rebuilt") from exc
