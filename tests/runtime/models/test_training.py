"""Data, network and fit: disjoint splits, folding changes nothing, seeds decide."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from runtime.errors import InvalidConfig
from runtime.models.datasets.digits import enlarge, load_splits
from runtime.models.examples import Examples
from runtime.models.fitting import Progress, fit_network
from runtime.models.network import ExitsOnly, MultiExitNetwork
from runtime.models.zoo import ZOO, ConvSpec, ExitSpec, FitSpec, ModelSpec, conv_chain_spec


def fit(spec: ModelSpec, num_classes: int, train: Examples, progress: Progress) -> MultiExitNetwork:
    """The chain of a specification, trained."""

    def make() -> ExitsOnly:
        return ExitsOnly(MultiExitNetwork(spec, num_classes))

    trained = fit_network(make, train, spec.fit, exit_weights=spec.exit_weights, progress=progress)
    assert isinstance(trained, ExitsOnly)
    return trained.network


@pytest.fixture(scope="module")
def splits() -> dict[str, Examples]:
    """The data of seed 0."""
    return load_splits(0)


def test_splits_are_sized_stratified_and_disjoint(splits: dict[str, Examples]) -> None:
    """1100, 337 and 360 pictures, each split with all classes in the same shares, no scan in two of them."""
    assert {name: len(part.labels) for name, part in splits.items()} == {"train": 1100, "validation": 337, "test": 360}
    shares = [np.bincount(part.labels, minlength=10) / len(part.labels) for part in splits.values()]
    np.testing.assert_allclose(shares[1], shares[0], atol=0.005)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.005)
    pictures = [image.tobytes() for part in splits.values() for image in part.images]
    assert len(set(pictures)) == 1797


def test_pictures_look_as_documented(splits: dict[str, Examples]) -> None:
    """uint8 [N, 1, 1, 64, 64] that use the range, labels int64."""
    train = splits["train"]
    assert train.images.shape == (1100, 1, 1, 64, 64)
    assert train.images.dtype == np.uint8
    assert train.images.min() == 0
    assert train.images.max() == 255
    assert train.labels.dtype == np.int64


def test_same_seed_same_split(splits: dict[str, Examples]) -> None:
    """The seed decides which scan goes where."""
    np.testing.assert_array_equal(load_splits(0)["test"].images, splits["test"].images)
    assert not np.array_equal(load_splits(1)["test"].labels, splits["test"].labels)


def test_enlarging_keeps_flat_areas() -> None:
    """A scan of one value stays of that value: 16 is white, 8 half."""
    scans = np.stack([np.full((8, 8), 16.0), np.full((8, 8), 8.0), np.zeros((8, 8))])
    assert [sorted(set(image.ravel().tolist())) for image in enlarge(scans)] == [[255], [128], [0]]


def test_folding_changes_nothing(splits: dict[str, Examples], tiny_spec: ModelSpec) -> None:
    """Normalisations put into the weights give the same cuts and logits."""
    network = fit(tiny_spec, 10, splits["train"], lambda share: None).eval()
    image = torch.from_numpy(splits["test"].images[:4, 0])
    with torch.no_grad():
        before = network(image)
        network.fold()
        after = network(image)
    for old, new in zip(before[0] + before[1], after[0] + after[1], strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)
    kinds = {type(module).__name__ for module in network.modules()}
    assert not any("BatchNorm" in kind for kind in kinds)


def test_training_is_seeded_and_polite(splits: dict[str, Examples], tiny_spec: ModelSpec) -> None:
    """The same seed gives the same weights, another seed others; the caller's random numbers are not touched."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (fit(tiny_spec, 10, splits["train"], lambda share: None) for _ in range(2))
    torch.testing.assert_close(torch.rand(3), expected)
    other_spec = msgspec.structs.replace(tiny_spec, fit=msgspec.structs.replace(tiny_spec.fit, seed=9))
    other = fit(other_spec, 10, splits["train"], lambda share: None)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_every_exit_learns(splits: dict[str, Examples], tiny_spec: ModelSpec) -> None:
    """A few epochs of the tiny network are far better than chance at every exit, and progress is told."""
    told: list[float] = []
    spec = msgspec.structs.replace(tiny_spec, fit=FitSpec(epochs=5, learning_rate=0.02, max_shift_pixels=0))
    network = fit(spec, 10, splits["train"], told.append).eval()
    with torch.no_grad():
        _, logits = network(torch.from_numpy(splits["test"].images[:, 0]))
    accuracies = [(branch.argmax(1).numpy() == splits["test"].labels).mean() for branch in logits]
    assert min(accuracies) > 0.25
    assert told == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_shapes_of_the_digits_network() -> None:
    """Cuts shrink from 16x32x32 to 128x2x2 and each exit has ten logits."""
    network = MultiExitNetwork(ZOO["digits-cnn"], 10).eval()
    with torch.no_grad():
        cuts, logits = network(torch.zeros((1, 1, 64, 64), dtype=torch.uint8))
    assert [tuple(cut.shape[1:]) for cut in cuts] == [
        (16, 32, 32), (32, 16, 16), (48, 8, 8), (64, 8, 8), (96, 4, 4), (96, 4, 4), (128, 2, 2),
    ]  # fmt: skip
    assert [tuple(branch.shape) for branch in logits] == [(1, 10)] * 3


def test_exits_must_rise_to_the_last_stage(tiny_spec: ModelSpec) -> None:
    """A specification whose last exit is not the full model is refused."""
    with pytest.raises(InvalidConfig, match="exit ends must rise"):
        conv_chain_spec("bad", stages=((ConvSpec(channels=4),),) * 2, exits=(ExitSpec(end=1),), fit=tiny_spec.fit)
