"""Networks that answer for every cell of a picture."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from runtime.errors import InvalidDataset, InvalidModel
from runtime.models.cells import FIT, cell_spec, train_cells
from runtime.models.networks.cells import cell_network
from runtime.models.pixels import PixelInput

STRIDE = 8
SPEC = msgspec.structs.replace(FIT, epochs=15, batch_size=4)


def bright_cells(num_pictures: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, brighter where a cell is occupied: uint8 [N, 3, 24, 32] and bool [N, 3, 4]."""
    rng = np.random.default_rng(seed)
    occupied = rng.random((num_pictures, 3, 4)) < 0.3
    bright = occupied.repeat(STRIDE, axis=1).repeat(STRIDE, axis=2)[:, None] * 120
    return (rng.integers(40, 100, (num_pictures, 3, 24, 32)) + bright).astype(np.uint8), occupied


def test_cells_are_learnt_and_found_again(tmp_path: Path) -> None:
    """Trained on pictures with a label for every cell it is right on others; the same training is not repeated."""
    images, occupied = bright_cells(16, seed=1)
    heard: list[float] = []
    weights = train_cells(images, occupied, fit=SPEC, cache=tmp_path, progress=heard.append)
    assert heard[-1] == 1.0
    network = PixelInput(cell_network(stride=STRIDE, weights=str(weights))).eval()
    fresh, expected = bright_cells(12, seed=2)
    with torch.no_grad():
        logits = network(torch.from_numpy(fresh))
    assert isinstance(logits, torch.Tensor)
    assert ((logits[:, 1] > logits[:, 0]).numpy() == expected).mean() > 0.95
    assert train_cells(images, occupied, fit=SPEC, cache=tmp_path, progress=heard.append) == weights
    assert len(heard) == SPEC.epochs
    assert train_cells(images, ~occupied, fit=msgspec.structs.replace(SPEC, epochs=1), cache=tmp_path) != weights


@pytest.mark.parametrize("stride", [2, 16, 64])
def test_there_is_an_answer_for_every_cell(stride: int) -> None:
    """Whatever the picture's size, as long as cells tile it."""
    network = cell_network(stride=stride, width=0.5)
    assert network(torch.zeros(1, 3, 2 * stride, 3 * stride)).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("stride", [0, 1, 3, 128])
def test_other_strides_are_refused(stride: int) -> None:
    """Halvings only."""
    with pytest.raises(InvalidModel, match="pixels a side"):
        cell_network(stride=stride)


def test_a_file_without_the_weights_is_refused(tmp_path: Path) -> None:
    """Garbage, another stride's, or none at all."""
    images, occupied = bright_cells(4, seed=1)
    weights = train_cells(images, occupied, fit=msgspec.structs.replace(SPEC, epochs=1), cache=tmp_path)
    (tmp_path / "garbage").write_bytes(b"garbage")
    for path, stride in ((tmp_path / "garbage", STRIDE), (weights, 16), (tmp_path / "nothing", STRIDE)):
        with pytest.raises(InvalidModel, match="does not hold the weights"):
            cell_network(stride=stride, weights=str(path))


def test_grids_that_do_not_tile_are_refused(tmp_path: Path) -> None:
    """Cells are square and cover the picture; every picture has a grid."""
    images, occupied = bright_cells(4, seed=1)
    for grids in (occupied[:, :2], occupied[:, :, :3], occupied[:3]):
        with pytest.raises(InvalidDataset, match="must tile"):
            train_cells(images, grids, fit=SPEC, cache=tmp_path)


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    """What is in the file counts, not only where it lies."""
    path = tmp_path / "w"
    path.write_bytes(b"one")
    one = cell_spec("cells", path, STRIDE, (3, 24, 32))
    path.write_bytes(b"other")
    assert cell_spec("cells", path, STRIDE, (3, 24, 32)) != one
    assert one.input.shape == (1, 3, 24, 32)
