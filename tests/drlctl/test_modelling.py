"""`drlctl models build | exits | compress` on a network and data that the project does not contain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import run_cli
from tests.runtime.models.datasets.writers import write_idx
from tests.runtime.models.small_networks import stripes

NETWORK = """
from torch import nn

def plain(channels=3, num_classes=10, width=1.0):
    a, b = round(8 * width), round(16 * width)
    first = nn.Sequential(nn.Conv2d(channels, a, 3, 1, 1), nn.BatchNorm2d(a), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
    third = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU())
    return nn.Sequential(first, second, third, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, num_classes))
"""
LIMIT_S = 280.0

pytestmark = pytest.mark.timeout(300)  # torch exports networks in processes of their own: seconds, but minutes beside other work


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """A folder with somebody's module and pictures, and a cache of its own; its environment."""
    (tmp_path / "own_networks.py").write_text(NETWORK)
    (tmp_path / "stripes").mkdir()
    part = stripes(200, 1)
    write_idx(tmp_path / "stripes", "train", part.images[:, 0, 0], part.labels.astype(np.uint8))
    return {"PYTHONPATH": str(Path(__file__).parents[2]), "DRLCTL_CACHE": str(tmp_path / "cache"), "PYTHONWARNINGS": "default"}


@pytest.mark.slow
def test_own_network_gets_exits_and_is_compressed(elsewhere: dict[str, str], tmp_path: Path, run_here: RunHere) -> None:
    """One call gives exits, thresholds and shares; in another process one adds a variant, and later ones know the model by its name."""
    own = ("own_networks:plain", "--data", "stripes", "--name", "mine")
    done = run_cli("models", "exits", *own, "--at", "1", "--epochs", "4", "--json", env=elsewhere, cwd=tmp_path, timeout_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout)
    figures = built["variants"]["fp32"]
    assert len(figures["accuracy"]) == len(built["exit_ends"]) == len(figures["confidence"]["shares"]) == 2
    assert sum(figures["confidence"]["shares"]) == pytest.approx(1)
    assert "training" in done.stderr
    done = run_here("models", "compress", "mine", "--variant", "pruned", "--json", env=elsewhere, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads(done.stdout)[key] for key in ("before", "after"))
    assert before["variants"]["fp32"]["accuracy"] == after["variants"]["fp32"]["accuracy"] == figures["accuracy"]
    assert after["variants"]["pruned"]["flops"] <= figures["flops"] / 2
    assert after["variants"]["pruned"]["loaded_bytes"] > 0
    shown = run_here("models", "show", "mine", env=elsewhere, cwd=tmp_path)
    assert (shown.returncode, "variant pruned" in shown.stdout) == (0, True)
    assert "mine" in run_here("models", "list", env=elsewhere, cwd=tmp_path).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("build", "own_networks:plain"), 78, "give --data"),
        (("build", "own_networks:plain", "--data", "nowhere"), 65, "no data set 'nowhere'"),
        (("build", "nothing", "--data", "stripes"), 78, "no architecture 'nothing'"),
        (("build", "resnet", "--data", "stripes", "--variants", "fp16"), 78, "no variant 'fp16'"),
        (("build", "resnet", "--data", "stripes", "--name", "../x"), 78, "a model's name"),
        (("exits", "resnet", "--at", "1", "--data", "stripes"), 65, "exits of its own"),
        (("compress", "resnet", "--variant", "pruned"), 78, "trained on nothing"),
    ],
)
def test_what_cannot_be_built_is_explained(
    arguments: tuple[str, ...], code: int, message: str, elsewhere: dict[str, str], tmp_path: Path, run_here: RunHere
) -> None:
    """One message with the reason, nothing on stdout, no traceback."""
    done = run_here("models", *arguments, env=elsewhere, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
