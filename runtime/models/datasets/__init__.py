"""Labelled pictures to train on: built in, or from a path, whatever form is found there.  Needs the `train` extra.

To add a form: one module with `matches(path)` and `load(path)`, and one line in `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.errors import InvalidDataset
from runtime.models.datasets import cifar, folder, idx
from runtime.models.datasets.built_in import BUILT_IN, load_built_in
from runtime.models.datasets.found import Found
from runtime.models.examples import Examples

if TYPE_CHECKING:
    from runtime.models.datasets.splitting import SplitSpec

FORMS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], Found]]] = {
    "cifar": (cifar.matches, cifar.load),
    "folder": (folder.matches, folder.load),
    "idx": (idx.matches, idx.load),
}
"""Form of the files -> (is it what lies at the path?, read it)."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Classes and disjoint examples of the splits "train", "validation" and "test"."""

    classes: tuple[str, ...]
    splits: dict[str, Examples]


def load_dataset(source: str | Path, spec: SplitSpec | None = None) -> Dataset:
    """A built-in data set by its name, or one from a directory; the same files and `spec` give the same splits.

    Raises InvalidDataset when there is nothing at the path, more than one form, or files that are not what they claim.
    """
    if str(source) in BUILT_IN:
        classes, splits = load_built_in(str(source), spec.seed if spec is not None else 0)
        return Dataset(classes=classes, splits=splits)
    path = Path(source)
    if not path.is_dir():
        raise InvalidDataset(f"no data set {str(source)!r}: neither a directory nor one of {', '.join(BUILT_IN)}")
    found = FORMS[detect(path)][1](path)
    from runtime.models.datasets.splitting import SplitSpec, complete_splits  # scikit-learn, which takes seconds to import

    return Dataset(classes=found.classes, splits=complete_splits(found.parts, spec or SplitSpec()))


def detect(path: Path) -> str:
    """Which of `FORMS` lies in a directory.  Raises InvalidDataset unless it is exactly one."""
    forms = [name for name, (matches, _) in FORMS.items() if matches(path)]
    if len(forms) != 1:
        what = f"more than one data set ({', '.join(forms)})" if forms else f"no data set of the forms {', '.join(FORMS)}"
        raise InvalidDataset(f"{path} holds {what}")
    return forms[0]
