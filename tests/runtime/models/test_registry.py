"""One's own models by name: kept as data, never over the zoo's, never outside their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.errors import InvalidConfig, UnknownModel
from runtime.models.registry import find_spec, names, register
from runtime.models.zoo import ZOO, ModelSpec

OWN = msgspec.structs.replace(ZOO["resnet"], name="own@pictures")


def test_registered_is_found(tmp_path: Path) -> None:
    """A specification comes back as it was, is listed behind the zoo's, and the later one of a name wins."""
    register(OWN, tmp_path)
    assert find_spec(OWN.name, tmp_path) == OWN
    assert names(tmp_path) == [*sorted(ZOO), OWN.name]
    later = msgspec.structs.replace(OWN, max_stages=3)
    register(later, tmp_path)
    assert find_spec(OWN.name, tmp_path) == later


def test_the_zoo_cannot_be_shadowed(tmp_path: Path) -> None:
    """A name of the zoo always means the zoo's model."""
    with pytest.raises(InvalidConfig, match="another name"):
        register(ZOO["resnet"], tmp_path)
    assert find_spec("resnet", tmp_path) is ZOO["resnet"]


@pytest.mark.parametrize("name", ["", "../own", "a/b", ".hidden", "x" * 65, "a\0b"])
def test_names_are_not_paths(name: str, tmp_path: Path) -> None:
    """What could leave the folder is no name: neither found nor given."""
    with pytest.raises(UnknownModel, match="no model"):
        find_spec(name, tmp_path)
    with pytest.raises(InvalidConfig, match="name"):
        ModelSpec(**(msgspec.structs.asdict(OWN) | {"name": name}))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", msgspec.json.encode(OWN).replace(b"fp32", b"fp99")])
def test_corrupt_file_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    """Whatever lies there instead of a specification, the error names the file."""
    register(OWN, tmp_path)
    (path,) = (tmp_path / "models").glob("own*")
    path.write_bytes(data)
    with pytest.raises(UnknownModel, match="is not a model's specification"):
        find_spec(OWN.name, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": ()}, "at least one variant"),
        ({"variants": ("fp32", "fp32")}, "each once"),
        ({"variants": ("pruned",)}, "give it a dataset"),
        ({"flops_shares": {"lowres": 0.5}}, "a share of FLOPs"),
        ({"flops_shares": {"pruned": 1.0}}, "a share of FLOPs"),
    ],
)
def test_impossible_specifications_are_refused(change: dict[str, Any], message: str) -> None:
    """What can never be built cannot be specified."""
    with pytest.raises(InvalidConfig, match=message):
        ModelSpec(**(msgspec.structs.asdict(OWN) | change))
