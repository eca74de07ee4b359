"""The attack: it succeeds where the input is there, fails where it is not, and repeats itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidConfig, InvalidDecision, InvalidInput
from runtime.inference.engine import Engine
from runtime.models.datasets.digits import load_splits
from runtime.models.privacy import measure_privacy
from runtime.models.reconstruction import Attacker, AttackSpec
from runtime.models.similarity import nmse

QUICK = AttackSpec(epochs=4, max_pictures=256, width=8)
EAGER = AttackSpec(epochs=15, learning_rate=1e-2)


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """The attacker's digits and unseen ones, 16 x 16 to be quick, uint8 [N, 1, 16, 16]."""
    splits = load_splits(seed=1)
    own, unseen = (splits[name].images[:, 0, :, ::4, ::4] for name in ("train", "test"))
    return own[:512], unseen[:100]


def attack(own: np.ndarray, unseen: np.ndarray, crossing: list[np.ndarray], victims: list[np.ndarray], spec: AttackSpec = EAGER) -> float:
    """NMSE on unseen pictures."""
    guesses = Attacker(crossing, own, spec).guess(victims)
    assert guesses.shape == unseen.shape
    assert 0 <= guesses.min() <= guesses.max() <= 1
    return nmse(unseen / 255, guesses, (own / 255).mean(axis=0))


def test_what_is_there_is_found_and_what_is_not_is_not(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """From the picture itself little is wrong; from noise nothing is better than about the mean picture."""
    own, unseen = pictures
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(len(part), 4, 8, 8)).astype(np.float32) for part in (own, unseen)]
    everything = attack(own, unseen, [own], [unseen])
    nothing = attack(own, unseen, noise[:1], noise[1:])
    assert everything < 0.2
    assert nothing > 0.9


def test_any_shapes_of_tensors_are_taken(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """Several tensors, flat and spatial, of other dtypes; odd sizes of pictures."""
    own, unseen = (part[..., :13, :15] for part in pictures)
    flat = [part.reshape(len(part), -1).astype(np.float32) for part in (own, unseen)]
    assert attack(own, unseen, [flat[0], own[:, :, ::2, ::2]], [flat[1], unseen[:, :, ::2, ::2]]) < 0.5


def test_the_same_seed_gives_the_same_guesses(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """Bit by bit."""
    own, unseen = (part[:64] for part in pictures)
    one, same = (Attacker([own], own, AttackSpec(epochs=1, width=4, seed=3)).guess([unseen]) for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_a_linear_code_is_inverted_linearly(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """A mixture of all pixels is undone by ridge regression, better than by a decoder that hardly trained."""
    own, unseen = pictures
    mixing = np.random.default_rng(0).normal(size=(256, 256))
    mixed = [(part.reshape(len(part), -1) @ mixing).astype(np.float32) for part in (own, unseen)]
    attacker = Attacker(mixed[:1], own, AttackSpec(epochs=1, width=4))
    assert attacker.method == "linear"
    assert nmse(unseen / 255, attacker.guess(mixed[1:]), (own / 255).mean(axis=0)) < 0.1


def test_impossible_attacks_are_refused(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    """Fewer pictures than a batch, no epochs."""
    with pytest.raises(InvalidConfig, match="one batch"):
        Attacker([pictures[0][:5]], pictures[0][:5], QUICK)
    with pytest.raises(InvalidConfig, match="epochs"):
        AttackSpec(epochs=0)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "codec"), [("fp32", "identity"), ("int8", "identity"), ("fp32", "topk10")])
def test_every_cut_is_judged(tiny_cache: Path, variant: str, codec: str) -> None:
    """Cut 0 is the picture itself; further cuts have figures, the deeper of this small network tells less than all."""
    (directory,) = (path for path in (tiny_cache / "models").iterdir() if path.is_dir())
    splits = load_splits(seed=1)
    own, unseen = splits["train"].images[:256], splits["test"].images[:40]
    cuts = measure_privacy(Engine(directory), variant, own, unseen, codec=codec, spec=QUICK)
    assert [cut.cut for cut in cuts] == [0, 1, 2]
    assert (cuts[0].leakage, cuts[0].nmse, cuts[0].ssim) == (1.0, 0.0, 1.0)
    for cut in cuts[1:]:
        assert 0 < cut.leakage < 1
        assert 0 < cut.nmse < 1.2
        assert -1 <= cut.ssim < 1
        assert cut.guesses.shape == (40, 1, 64, 64)


def test_only_pictures_and_known_codecs_are_attacked(tiny_cache: Path) -> None:
    """Vectors have no SSIM; an unknown codec is named."""
    (directory,) = (path for path in (tiny_cache / "models").iterdir() if path.is_dir())
    images = load_splits(seed=1)["train"].images[:32]
    with pytest.raises(InvalidInput, match="of pictures"):
        measure_privacy(Engine(directory), "fp32", np.zeros((8, 1, 100), np.float32), images)
    with pytest.raises(InvalidDecision, match="zip"):
        measure_privacy(Engine(directory), "fp32", images, images, codec="zip")
