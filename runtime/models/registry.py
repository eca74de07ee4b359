"""Every model there is, by name: the zoo's, and those that somebody made for their own data, kept as JSON in the cache."""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.errors import InvalidConfig, UnknownModel
from runtime.files import cache_dir, write_atomically
from runtime.models.zoo import NAME_PATTERN, ZOO, ModelSpec

_SUFFIX = ".spec.json"


def find_spec(name: str, cache: Path | None = None) -> ModelSpec:
    """The specification of a model of the zoo, or of a registered one.  Raises UnknownModel naming those there are."""
    if name in ZOO:
        return ZOO[name]
    path = _path(name, cache)
    if NAME_PATTERN.fullmatch(name) is None or not path.is_file():
        raise UnknownModel(f"no model {name!r} in the zoo or among your own; there is {', '.join(names(cache))}")
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelSpec)
    except (OSError, msgspec.MsgspecError, InvalidConfig) as exc:
        raise UnknownModel(f"{path} is not a model's specification: {exc}; make it anew with `drlctl models build`") from exc


def names(cache: Path | None = None) -> list[str]:
    """All models: the zoo's, then one's own, each in order."""
    own = (path.name.removesuffix(_SUFFIX) for path in _folder(cache).glob(f"[!.]*{_SUFFIX}"))
    return [*sorted(ZOO), *sorted(set(own) - set(ZOO))]


def register(spec: ModelSpec, cache: Path | None = None) -> None:
    """Keep a specification under its name, in place of an earlier one.  Raises InvalidConfig for a name of the zoo."""
    if spec.name in ZOO:
        raise InvalidConfig(f"{spec.name!r} is a model of the zoo; give yours another name")
    write_atomically(_path(spec.name, cache), msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n")


def _folder(cache: Path | None) -> Path:
    return (cache or cache_dir()) / "models"


def _path(name: str, cache: Path | None) -> Path:
    return _folder(cache) / f"{name}{_SUFFIX}"
