"""What somebody may ask of a model for their own data: without torch, so that a command line can say it."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may ask of their model; what is not said follows from architecture and data."""

    name: str = ""
    """Default: `ARCHITECTURE@FOLDER`."""
    variants: tuple[str, ...] = ()
    num_exits: int = 0
    epochs: int = 0
    flip: bool = False
    seed: int = 0


def default_name(target: str, source: str, num_exits: int = 0) -> str:
    """What a model is called unless somebody says: `resnet-small@fashion_mnist`, `Rooms+2@rooms` with two exits added."""
    exits = f"+{num_exits}" if num_exits else ""
    return f"{target.rpartition(':')[2]}{exits}@{Path(source).resolve().name}"
