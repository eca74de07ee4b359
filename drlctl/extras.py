"""Optional parts of drlctl: asked for before a command starts its work, not in the middle of it."""

from __future__ import annotations

from importlib.util import find_spec

from runtime.errors import MissingExtra

EXTRAS = {
    "train": ("torch", "stable_baselines3"),
    "report": ("matplotlib",),
    "secure": ("cryptography",),
}
"""Extra -> what it brings, as imported."""


def installed(extra: str) -> bool:
    """Whether all that an extra brings is there."""
    return all(find_spec(name) is not None for name in EXTRAS[extra])


def require(*extras: str) -> None:
    """Raise MissingExtra, with the command that mends it, unless these extras are installed."""
    missing = [extra for extra in extras if not installed(extra)]
    if missing:
        raise MissingExtra(f"this needs the extra {' and '.join(missing)}: pip install 'drlctl[{','.join(missing)}]'")
