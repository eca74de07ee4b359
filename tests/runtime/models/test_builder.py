"""What is refused before any time is spent on training, and what any network may have."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from runtime.errors import InvalidModel
from runtime.messages import TensorSpec
from runtime.models.build import build_spec
from runtime.models.builder import stage_as_specified
from runtime.models.fingerprints import hash_factory
from runtime.models.manifest import load_manifest
from runtime.models.tailor import tailor
from runtime.models.wishes import Wishes
from runtime.models.zoo import FitSpec, ModelSpec
from tests.runtime.models.datasets.writers import write_idx
from tests.runtime.models.graphs import SHAPE, chain_of_blocks
from tests.runtime.models.small_networks import stripes

SPEC = ModelSpec(name="own", factory=f"{__name__}:Noisy", arguments={}, input=TensorSpec(shape=SHAPE, dtype="float32"), variants=("fp32",))


class Noisy(nn.Module):
    """A classifier that multiplies what it computes by a number drawn at every run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, 1, H, W] -> logits [N, 3]"""
        logits: torch.Tensor = self.last((self.first(x) * torch.randn(1, 1, 1, 1)).mean((2, 3)))
        return logits


class Codebook(nn.Module):
    """A network whose narrowest place carries indices of a table of five rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.book, self.last = nn.Conv2d(1, 5, 3), nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, 1, H, W] -> float32 [N, 3]"""
        result: torch.Tensor = self.last(self.book(self.first(x).argmax(1)).mean((1, 2)))
        return result


def test_more_exits_than_stages_are_allowed_make_more_stages() -> None:
    """A network with ten exits has at least ten stages, whatever the limit for others."""
    model = chain_of_blocks(10, exits=tuple(range(1, 10)))
    graph = stage_as_specified(SPEC, model, np.zeros(SHAPE, np.float32))
    assert len(graph.exit_ends) == graph.num_stages == 10


def test_what_cannot_be_staged_is_not_trained(tmp_path: Path) -> None:
    """The refusal comes before the first epoch, and says what to do."""
    part, data = stripes(300, 1), tmp_path / "stripes"
    data.mkdir()
    write_idx(data, "train", part.images[:, 0, 0], part.labels.astype(np.uint8))
    spec = msgspec.structs.replace(tailor(SPEC.factory, str(data), Wishes(name="own")), fit=FitSpec(epochs=1))
    heard: list[str] = []
    with pytest.raises(InvalidModel, match="draw them once, in its constructor"):
        build_spec(spec, tmp_path / "cache", lambda phase, share: heard.append(phase))
    assert heard == []


def test_a_network_of_indices_is_built(tmp_path: Path) -> None:
    """Where indices cross a cut, what is tried out are indices that the table has."""
    spec = msgspec.structs.replace(SPEC, factory=f"{__name__}:Codebook", input=TensorSpec(shape=(1, 1, 6, 6), dtype="float32"))
    info = load_manifest(build_spec(spec, tmp_path)).variants["fp32"]
    assert any(tensor.dtype == "int64" for cut in info.cuts for tensor in cut)


def test_edited_code_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the identity of the old code nothing new is trained or loaded."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "edited_networks.py"
    path.write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(4, 2)\n")
    target = "edited_networks:make"
    spec = msgspec.structs.replace(SPEC, factory=target, code_sha256=hash_factory(target))
    path.write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(4, 3)\n")
    try:
        with pytest.raises(InvalidModel, match="not what 'own' was made for; make it anew"):
            build_spec(spec, tmp_path / "cache")
    finally:
        sys.modules.pop("edited_networks", None)
