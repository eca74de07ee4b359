"""Which code a model's identity depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models.build import content_key
from runtime.models.fingerprints import hash_factory, local_sources, with_imports
from runtime.models.zoo import ZOO


def test_imports_are_followed_within_the_package(tmp_path: Path) -> None:
    """Direct and indirect ones, circles included; other packages, and modules nobody imports, do not count."""
    (tmp_path / "a.py").write_text("import os\nfrom nets.b import Block\nfrom others.d import Thing\n")
    (tmp_path / "b.py").write_text("from nets import c\n\n\ndef make():\n    from nets.a import A\n")
    (tmp_path / "c.py").write_text("from nets.missing import nothing\n")
    (tmp_path / "d.py").write_text("unused = 1\n")
    assert [path.name for path in with_imports(tmp_path / "a.py", "nets")] == ["a.py", "b.py", "c.py"]
    assert with_imports(tmp_path / "missing.py", "nets") == []


def test_a_network_and_what_it_is_made_of_count() -> None:
    """The small ResNet is made of the large one's blocks; two architectures of one specification are two models."""
    folder = Path(__file__).parents[3] / "runtime" / "models" / "networks"
    sources = {path.name for path in with_imports(folder / "plain.py", "runtime.models.networks")}
    assert {"plain.py", "resnet.py"} <= sources < {path.name for path in folder.glob("*.py")}
    assert content_key(ZOO["resnet"]) != content_key(ZOO["mobilenet"])


def test_code_that_a_factory_imports_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules beside the factory's count, however they are imported, and comments do not; nor does anything installed."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "somebodys_networks"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("import torch\nfrom .parts import blocks\nfrom somebodys_widths import WIDTH\n\n\ndef make(): ...\n")
    (package / "parts" / "__init__.py").write_text("")
    (package / "parts" / "blocks.py").write_text("from ..more import THING\n")
    (package / "more.py").write_text("THING = 1\n")
    (package / "unused.py").write_text("OTHER = 1\n")
    (tmp_path / "somebodys_widths.py").write_text("WIDTH = 8\n")
    found = local_sources("somebodys_networks.net", package / "net.py")
    assert [path.name for path in found if path.name != "__init__.py"] == ["net.py", "more.py", "blocks.py", "somebodys_widths.py"]
    before = hash_factory("somebodys_networks.net:make")
    (package / "unused.py").write_text("OTHER = 2\n")
    (tmp_path / "somebodys_widths.py").write_text("WIDTH = 8  # wide\n")
    assert hash_factory("somebodys_networks.net:make") == before
    for path in (tmp_path / "somebodys_widths.py", package / "more.py"):
        path.write_text("WIDTH = THING = 16\n")
        assert hash_factory("somebodys_networks.net:make") != before
        before = hash_factory("somebodys_networks.net:make")
