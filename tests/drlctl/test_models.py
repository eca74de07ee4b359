"""`drlctl models`: what there is, and a network of one's own cut from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from drlctl.models import split_network
from runtime.messages import TensorSpec
from runtime.models.difficulty import ensure_difficulty
from runtime.models.registry import register
from runtime.models.zoo import ModelSpec
from tests.drlctl.conftest import RunHere

MODELS = ("alexnet", "digits-cnn", "generator", "lstm", "mobilenet", "resnet", "resnet-small")

NETWORK = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.exits = nn.ModuleList(nn.Linear(8, classes) for _ in range(2))

    def forward(self, x):
        x = torch.relu(self.first(x))
        early = self.exits[0](x.mean((2, 3)))
        return early, self.exits[1](torch.relu(x + self.second(x)).mean((2, 3)))

class Plain(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 4))

def unlucky():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder outside the project with somebody's module in it, to be in."""
    (tmp_path / "own_networks.py").write_text(NETWORK)
    return tmp_path


def test_list_names_the_zoo(tmp_path: Path, run_here: RunHere) -> None:
    """Every model is listed, as text and as JSON; a new cache has none of one's own."""
    elsewhere = {"DRLCTL_CACHE": str(tmp_path)}
    listed = json.loads(run_here("models", "list", "--json", cwd=tmp_path, env=elsewhere).stdout)
    assert [entry["spec"]["name"] for entry in listed] == list(MODELS)
    assert [line.split()[0] for line in run_here("models", "list", cwd=tmp_path, env=elsewhere).stdout.splitlines()[1:]] == list(MODELS)


def test_a_damaged_specification_hides_no_other(tmp_path: Path, run_here: RunHere, caplog: pytest.LogCaptureFixture) -> None:
    """The others are listed, and the damaged one is named."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "torn.spec.json").write_text("{")
    done = run_here("models", "list", "--json", cwd=tmp_path, env={"DRLCTL_CACHE": str(tmp_path)})
    assert [entry["spec"]["name"] for entry in json.loads(done.stdout)] == list(MODELS)
    assert "torn is left out" in caplog.text


@pytest.mark.slow
def test_a_registered_model_is_split_as_it_is_built(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its pixels scaled and its exits, by a factory in the current folder."""
    monkeypatch.chdir(own)
    monkeypatch.setenv("DRLCTL_CACHE", str(own))
    bytes_in = TensorSpec(shape=(1, 3, 16, 16), dtype="uint8")
    spec = ModelSpec(name="mine", factory="own_networks:Plain", arguments={}, input=bytes_in, variants=("fp32",))
    register(msgspec.structs.replace(spec, scale_pixels=True, num_exits=1, max_stages=2))
    try:
        split = split_network("mine", "", "float32")
    finally:
        sys.path.remove(str(own))
        sys.modules.pop("own_networks", None)
    assert split.exit_ends == (1, 2)
    assert split.cuts[0].num_bytes == 3 * 16 * 16


def test_show_tells_what_was_measured(digits_model: Path, tmp_path: Path, run_here: RunHere) -> None:
    """A built model's cuts, times and accuracies are shown for each variant."""
    ensure_difficulty(digits_model)
    shown = run_here("models", "show", "digits-cnn", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "stages    7, exits after 3, 5, 7" in shown.stdout
    assert shown.stdout.count("next stage ms") == 2
    assert "errors told from the input: fitted on 337 validation pictures" in shown.stdout
    assert "no: not surely better than the base rate" in shown.stdout
    entry = json.loads(run_here("models", "show", "digits-cnn", "--json", cwd=tmp_path).stdout)
    assert entry["directory"] == str(digits_model)
    assert entry["manifest"]["exit_ends"] == [3, 5, 7]


@pytest.mark.slow
def test_own_network_is_split(own: Path, run_here: RunHere) -> None:
    """A module in the current folder is imported, exported and cut where its exit leaves; nothing in it is changed."""
    done = run_here("models", "split", "own_networks:Own", "--input", "1x3x16x16", "--json", cwd=own)
    assert done.returncode == 0, done.stderr
    split = json.loads(done.stdout)
    chosen = [cut for cut in split["cuts"] if cut["stages"] is not None]
    assert split["num_parameters"] == 3 * 8 * 9 + 8 + 8 * 8 * 9 + 8 + 2 * (8 * 4 + 4)
    assert [cut["exits"] for cut in chosen if cut["exits"]] == [[0], [1]]
    assert chosen[0]["num_bytes"] == 4 * 3 * 16 * 16
    assert split["exit_ends"][-1] == len(chosen) - 1
    assert (own / "own_networks.py").read_text() == NETWORK


@pytest.mark.slow
def test_own_network_as_a_table(own: Path, run_here: RunHere) -> None:
    """People see a row for each cut, with its bytes and tensors, and with --all every place."""
    done = run_here("models", "split", "own_networks:Own", "--input", "1x3x16x16", "--all", cwd=own)
    assert done.returncode == 0, done.stderr
    assert "own_networks:Own: input float32[1,3,16,16], 880 parameters" in done.stdout
    assert "input:float32[1,3,16,16]" in done.stdout
    assert "\n-  " in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "--input", "1x3"), "no model 'nothing' in the zoo"),
        (("own_networks:Own",), "say its input's shape, batch first: --input 1x3x64x64"),
        (("own_networks:Own", "--input", "1,3"), "whole numbers joined by x"),
        (("own_networks:Own", "--input", "1x3x16x16", "--dtype", "complex64"), "cannot be sent"),
        (("own_networks:Own", "--input", "1x5x16x16"), r"Own fails on an input of float32[1, 5, 16, 16]"),
        (("own_networks:Own", "--input", "1x3x16x16", "--max-stages", "1"), "allowed are 1: allow more"),
        (("own_networks:unlucky", "--input", "1x3"), "own_networks:unlucky raised RuntimeError: no weights here"),
        (("not_there:Own", "--input", "1x3"), "cannot import 'not_there'"),
    ],
)
def test_what_cannot_be_split_is_explained(arguments: tuple[str, ...], message: str, own: Path, run_here: RunHere) -> None:
    """Exit code 65, one message with the reason, nothing on stdout, no traceback."""
    done = run_here("models", "split", *arguments, cwd=own)
    assert (done.returncode, done.stdout) == (65, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
