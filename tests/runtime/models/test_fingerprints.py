"""Which code a model's identity depends on."""

from __future__ import annotations

from pathlib import Path

from runtime.models.build import content_key
from runtime.models.fingerprints import with_imports
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
