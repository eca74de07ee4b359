"""What a loader finds at a path, and the limits that every loader keeps."""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.errors import InvalidDataset
from runtime.models.examples import Examples

MAX_BYTES = 2**31
"""Pictures of one part in memory: whoever has more needs a loader that streams, and headers that claim more lie."""
PARTS = ("train", "validation", "test")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures as they lie on the disk, checked."""

    classes: tuple[str, ...]
    """Names in the order of the labels."""
    parts: dict[str, Examples]
    """"train", and "validation" and "test" where they are official."""

    def __post_init__(self) -> None:
        if "train" not in self.parts or not set(self.parts) <= set(PARTS):
            raise InvalidDataset(f"a data set has the part 'train' and at most {', '.join(PARTS)}; got {sorted(self.parts)}")
        shape = self.parts["train"].images.shape[1:]
        for name, part in self.parts.items():
            _check(name, part, shape, len(self.classes))


def check_size(what: object, num_bytes: int) -> None:
    """Raise InvalidDataset when so much is more than MAX_BYTES; to be called before anything is read."""
    if num_bytes > MAX_BYTES:
        raise InvalidDataset(f"{what}: {num_bytes} bytes of pictures, at most {MAX_BYTES} are read")


def _check(name: str, part: Examples, shape: tuple[int, ...], num_classes: int) -> None:
    images, labels = part.images, part.labels
    if images.ndim != 5 or images.shape[1] != 1 or images.dtype != np.uint8 or images.size == 0:
        raise InvalidDataset(f"part {name!r}: pictures must be uint8 [N, 1, C, H, W] and not empty, got {images.dtype}{list(images.shape)}")
    if images.shape[1:] != shape:
        raise InvalidDataset(f"part {name!r} has pictures {list(images.shape[1:])}, 'train' has {list(shape)}; they must be the same")
    if labels.shape != (len(images),):
        raise InvalidDataset(f"part {name!r} has {len(images)} pictures and {len(labels)} labels; there must be one each")
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise InvalidDataset(f"part {name!r} has labels {labels.min()}..{labels.max()}; {num_classes} classes allow 0..{num_classes - 1}")
