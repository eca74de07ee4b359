"""From data and any network to a built model: every form and pair of forms, the same stages and exits."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from torch import nn

from runtime.errors import InvalidConfig, InvalidDataset, InvalidModel
from runtime.inference.engine import Engine
from runtime.models.build import build_spec, ensure_model, find_model
from runtime.models.examples import load_examples
from runtime.models.registry import register
from runtime.models.tailor import rising_weights, tailor, with_variant
from runtime.models.wishes import Wishes
from runtime.models.zoo import ZOO, FitSpec, ModelSpec
from tests.runtime.models.datasets.writers import write_idx
from tests.runtime.models.small_networks import Skip, stripes

FACTORY = f"{__name__}:skipping"
VARIANTS = ("fp32", "lowres", "pruned+int8", "slim")

pytestmark = pytest.mark.timeout(300)  # torch exports four networks: seconds, but minutes beside other work


def skipping(channels: int = 1, num_classes: int = 3, width: float = 1.0) -> nn.Module:
    """A residual network of one exit for floats, somebody's own."""
    a, b = round(16 * width), round(32 * width)
    stem = nn.Sequential(nn.Conv2d(channels, a, 3, 1, 1, bias=False), nn.BatchNorm2d(a), nn.ReLU())
    down = nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    return nn.Sequential(stem, Skip(a), down, Skip(b), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(b, num_classes))


def no_width(num_classes: int = 3) -> nn.Module:
    """A network of one size only."""
    return skipping(num_classes=num_classes)


def two_classes() -> nn.Module:
    """A network that cannot tell three classes apart."""
    return skipping(num_classes=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes as IDX files."""
    folder = tmp_path_factory.mktemp("stripes")
    for prefix, part in (("train", stripes(300, 1)), ("t10k", stripes(90, 2))):
        write_idx(folder, prefix, part.images[:, 0, 0], part.labels.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def spec(data: Path) -> ModelSpec:
    """The network with one early exit, in every form, a few seconds of training."""
    wishes = Wishes(name="own", num_exits=1, variants=VARIANTS)
    fit = FitSpec(epochs=3, batch_size=20, learning_rate=0.02, max_shift_pixels=0)
    return msgspec.structs.replace(tailor(FACTORY, str(data), wishes), fit=fit)


@pytest.fixture(scope="module")
def cache(spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the model, built and registered."""
    folder = tmp_path_factory.mktemp("cache")
    register(spec, folder)
    ensure_model("own", folder)
    return folder


def test_specification_follows_from_the_data(data: Path, spec: ModelSpec) -> None:
    """Input, classes and identity come from the data; what the factory does not take is not given; the name is derived."""
    assert (spec.input.shape, spec.input.dtype, spec.scale_pixels) == ((1, 1, 12, 12), "uint8", True)
    assert spec.arguments == {"channels": 1, "num_classes": 3}
    assert spec.dataset == str(data)
    assert len(spec.data_sha256) == len(spec.code_sha256) == 64
    assert spec.exit_weights == rising_weights(1) == (0.5, 1.0)
    assert tailor("resnet", str(data), Wishes()).name == f"resnet@{data.name}"
    chain = tailor("digits-cnn", str(data), Wishes(epochs=2))
    assert (chain.arguments["num_classes"], chain.scale_pixels, chain.fit.epochs) == (3, False, 2)


@pytest.mark.slow
def test_every_variant_keeps_stages_and_exits(cache: Path) -> None:
    """Same cuts and exits in all; smaller forms have less work; all have learnt; numbers are there."""
    directory = find_model("own", cache)
    assert directory is not None
    engine = Engine(directory)
    infos = engine.manifest.variants
    assert tuple(infos) == VARIANTS
    assert len({(len(info.cuts), info.outputs) for info in infos.values()}) == 1
    assert {info.cuts[0] for info in infos.values()} == {infos["fp32"].cuts[0]}
    assert infos["pruned+int8"].flops <= infos["fp32"].flops / 2
    assert infos["slim"].flops <= infos["fp32"].flops / 4
    assert infos["slim"].num_parameters < infos["fp32"].num_parameters == infos["lowres"].num_parameters
    assert min(info.accuracy["test"][-1] for info in infos.values()) > 0.9
    assert all(info.stored_bytes > 0 and len(info.exit_thresholds) == 1 for info in infos.values())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_splits_transparently(cache: Path, variant: str) -> None:
    """At every cut and exit the tail on the head's tensors is the whole."""
    directory = ensure_model("own", cache)
    engine = Engine(directory)
    image = load_examples(directory, "test").images[0]
    for exit, end in enumerate(engine.manifest.exit_ends):
        (whole,) = engine.run(variant, 0, end, exit, [image])
        for cut in range(1, end + 1):
            (parts,) = engine.run(variant, cut, end, exit, engine.run(variant, 0, cut, None, [image]))
            np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_another_variant_takes_the_weights_that_are_there(cache: Path, spec: ModelSpec) -> None:
    """The network is not trained again, and is the same to the last bit."""
    first = msgspec.structs.replace(spec, name="first", variants=("fp32",))
    heard: list[str] = []
    directory = build_spec(first, cache, lambda phase, share: heard.append(phase))
    assert not any("training" in phase for phase in heard)
    hashes = [{path.name: path.read_bytes() for path in (each / "fp32").iterdir()} for each in (directory, ensure_model("own", cache))]
    assert hashes[0] == hashes[1]
    added = with_variant(first, "pruned", 0.3)
    assert (added.variants, added.flops_shares, added.name) == (("fp32", "pruned"), {"pruned": 0.3}, "first")


def test_changed_data_are_noticed(data: Path, tmp_path: Path) -> None:
    """A specification is for the files that it was made for; other files make another model."""
    part = stripes(300, 1)
    write_idx(tmp_path, "train", part.images[:, 0, 0], part.labels.astype(np.uint8))
    spec = tailor(FACTORY, str(tmp_path), Wishes(name="own"))
    part = stripes(300, 4)
    write_idx(tmp_path, "train", part.images[:, 0, 0], part.labels.astype(np.uint8))
    with pytest.raises(InvalidDataset, match="not what 'own' was made for"):
        build_spec(spec, tmp_path / "cache")
    assert tailor(FACTORY, str(tmp_path), Wishes(name="own")).data_sha256 != spec.data_sha256


@pytest.mark.parametrize(
    ("target", "wishes", "message"),
    [
        (f"{__name__}:no_width", Wishes(variants=("slim",)), "a parameter `width`"),
        (f"{__name__}:two_classes", Wishes(), r"3 classes need \[1, 3\]"),
        ("resnet", Wishes(num_exits=1), "exits of its own"),
        (f"{__name__}:skipping", Wishes(num_exits=30), "30 exits asked for"),
        ("generator", Wishes(), "generator"),
    ],
)
def test_what_cannot_be_is_refused_before_training(target: str, wishes: Wishes, message: str, data: Path, tmp_path: Path) -> None:
    """A network that does not fit data or wishes is told so, and nothing is left in the cache."""
    spec = tailor(target, str(data), msgspec.structs.replace(wishes, name="own"))
    heard: list[str] = []
    with pytest.raises((InvalidConfig, InvalidModel), match=message):
        build_spec(spec, tmp_path, lambda phase, share: heard.append(phase))
    assert heard == []


def test_models_without_data_are_not_compressed() -> None:
    """There is nothing to teach the smaller network."""
    with pytest.raises(InvalidConfig, match="trained on nothing"):
        with_variant(ZOO["resnet"], "pruned", 0.5)
    assert with_variant(ZOO["digits-cnn"], "pruned+int8", None).name == "digits-cnn-pruned+int8"
