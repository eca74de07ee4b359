"""Networks that cannot be found, made or exported are one typed error that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from runtime.errors import InvalidModel
from runtime.models.export import export_graph
from runtime.models.factories import make_network

IMAGE = torch.zeros((1, 4))


class Branching(nn.Module):
    """Does one thing or another, by the values it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x + 1


class Dictionary(nn.Module):
    """Gives a dictionary."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": x}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(5, 2), r"Linear fails on an input of float32\[1, 4\]: RuntimeError"),
        (Dictionary(), "must give one tensor, or a list or tuple of one per exit; got dict"),
        pytest.param(
            Branching(), "Branching cannot be exported to ONNX: .*no branches or loops that depend on values", marks=pytest.mark.slow
        ),
    ],
    ids=["wrong shape", "wrong output", "control flow"],
)
def test_what_cannot_be_exported_is_refused(network: nn.Module, message: str) -> None:
    """The reason is named in one line, not in pages."""
    with pytest.raises(InvalidModel, match=message):
        export_graph(network, IMAGE)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("linear", "named package.module:factory, got 'linear'"),
        ("torch.nn:", "named package.module:factory"),
        ("no_such_module:make", "cannot import 'no_such_module': ModuleNotFoundError"),
        ("some_networks:absent", "has no factory 'absent', there is nothing of that name"),
        ("some_networks:number", "there is a value of type int"),
        ("some_networks:fails", "some_networks:fails raised RuntimeError: out of luck"),
        ("some_networks:words", r"must give a torch.nn.Module, got str"),
        ("broken_networks:make", "cannot import 'broken_networks': SyntaxError"),
    ],
)
def test_factories_that_do_not_work_are_refused(target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way a factory can fail has its own words."""
    (tmp_path / "some_networks.py").write_text(
        "number = 3\ndef fails():\n    raise RuntimeError('out of luck')\ndef words():\n    return 'words'\n"
    )
    (tmp_path / "broken_networks.py").write_text("def make(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InvalidModel, match=message):
        make_network(target, {}, seed=0)


def test_weights_follow_the_seed() -> None:
    """The same seed draws the same weights, and the caller's random numbers are not touched."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    target, size = "torch.nn:Linear", {"in_features": 3, "out_features": 2}
    first, again, other = (make_network(target, size, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(torch.rand(3), expected)
    assert torch.equal(first.get_parameter("weight"), again.get_parameter("weight"))
    assert not torch.equal(first.get_parameter("weight"), other.get_parameter("weight"))
