"""Reading typed configuration: strict about keys, and clear about what is allowed.

A config is a frozen struct beside what it configures; this module only decodes them from TOML or JSON.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime.errors import InvalidConfig

T = TypeVar("T")


def decode_config(data: dict[str, Any], kind: type[T], origin: str) -> T:
    """Turn plain data into a typed config.  Raises InvalidConfig naming the key and what is allowed there."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as exc:
        raise InvalidConfig(f"{origin}: {exc}{_allowed_keys(str(exc), kind)}") from exc


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.  Raises InvalidConfig when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidConfig(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidConfig(f"{path} is not valid TOML: {exc}") from exc


def _allowed_keys(message: str, kind: Any) -> str:
    """For an unknown or missing key: which keys there are at that place."""
    if "unknown field" not in message and "missing required field" not in message:
        return ""
    place = message.rsplit("- at `$", 1)[1].rstrip("`") if "- at `$" in message else ""
    for name in [part for part in place.split(".") if part]:
        kind = _field_type(kind, name.split("[")[0])
    names = _struct_fields(kind)
    return f" (allowed: {', '.join(names)})" if names else ""


def _field_type(kind: Any, name: str) -> Any:
    for candidate in _members(kind):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            for field in msgspec.structs.fields(candidate):
                if field.encode_name == name:
                    return field.type
    return None


def _struct_fields(kind: Any) -> list[str]:
    names: dict[str, None] = {}
    for candidate in _members(kind):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            names.update(dict.fromkeys(field.encode_name for field in msgspec.structs.fields(candidate)))
    return list(names)


def _members(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    args = getattr(kind, "__args__", ())
    return tuple(args) if args and not isinstance(kind, type) else (kind,)
