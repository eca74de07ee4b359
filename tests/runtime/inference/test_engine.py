"""The engine: what it accepts, what it refuses, and that threads may share it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from runtime.errors import InvalidTensor, UnknownModel
from runtime.inference.engine import Engine, softmax
from runtime.models.examples import load_examples
from runtime.models.manifest import MANIFEST_NAME, WEIGHTS_NAME, load_manifest

IMAGE = np.zeros((1, 1, 64, 64), dtype=np.uint8)
CUT3 = np.zeros((1, 48, 8, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def engine(digits_model: Path) -> Engine:
    """The model, loaded."""
    return Engine(digits_model)


@pytest.mark.parametrize(
    ("start", "tensors"),
    [
        (0, []),
        (0, [IMAGE, IMAGE]),
        (0, [IMAGE.astype(np.float32)]),
        (0, [IMAGE.astype(np.int8)]),
        (0, [IMAGE[0]]),
        (0, [np.zeros((2, 1, 64, 64), dtype=np.uint8)]),
        (3, [CUT3.astype(np.float64)]),
        (3, [CUT3.astype(">f4")]),
        (3, [CUT3.reshape(1, 48, 64)]),
    ],
)
def test_foreign_inputs_are_refused(engine: Engine, start: int, tensors: list[np.ndarray]) -> None:
    """Another number of tensors, shape, dtype or byte order is refused, and both sides are named."""
    with pytest.raises(InvalidTensor, match=r"cut \d carries .*; got "):
        engine.run("fp32", start, 5, None, tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite_are_refused(engine: Engine, value: float) -> None:
    """One NaN or infinity anywhere is enough."""
    poisoned = CUT3.copy()
    poisoned[0, 17, 3, 5] = value
    with pytest.raises(InvalidTensor, match="NaN or infinity"):
        engine.run("fp32", 3, 5, 1, [poisoned])


def test_huge_finite_inputs_pass(engine: Engine) -> None:
    """The largest float is a number, even where a sum of two of them is not."""
    (logits,) = engine.run("fp32", 3, 3, 0, [np.full_like(CUT3, 1e30)])
    assert logits.shape == (1, 10)


@pytest.mark.parametrize(
    ("variant", "start", "stop", "exit"),
    [("int4", 0, 3, 0), ("fp32", 3, 3, None), ("fp32", 4, 3, None), ("fp32", 0, 8, None), ("fp32", 0, 4, 0), ("fp32", 0, 7, 3)],
)
def test_segments_that_do_not_exist_are_refused(engine: Engine, variant: str, start: int, stop: int, exit: int | None) -> None:
    """Variants, stages and exits that the model does not have are UnknownModel."""
    with pytest.raises(UnknownModel):
        engine.run(variant, start, stop, exit, [IMAGE])


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    """No manifest, no engine."""
    with pytest.raises(UnknownModel, match="no model in"):
        Engine(tmp_path)


def test_corrupt_segment_is_refused(digits_model: Path, tmp_path: Path) -> None:
    """A segment that does not match the manifest never runs, and the others still do."""
    (tmp_path / "int8").mkdir()
    shutil.copy(digits_model / MANIFEST_NAME, tmp_path)
    for name in ("0-1.onnx", "0-2.onnx", WEIGHTS_NAME):
        shutil.copy(digits_model / "int8" / name, tmp_path / "int8")
    broken = tmp_path / "int8/0-2.onnx"
    broken.write_bytes(broken.read_bytes()[:-1] + b"\x00")
    engine = Engine(tmp_path)
    with pytest.raises(UnknownModel, match="corrupt"):
        engine.run("int8", 0, 2, None, [IMAGE])
    assert engine.run("int8", 0, 1, None, [IMAGE])[0].dtype == np.uint8


def test_corrupt_weights_are_refused(digits_model: Path, tmp_path: Path) -> None:
    """One flipped bit among a variant's weights stops every segment that takes some, before it runs."""
    shutil.copytree(digits_model, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "int8" / WEIGHTS_NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    engine = Engine(tmp_path)
    with pytest.raises(UnknownModel, match=r"weights\.safetensors is corrupt"):
        engine.run("int8", 0, 2, None, [IMAGE])
    assert engine.run("fp32", 0, 2, None, [IMAGE])[0].dtype == np.float32


def test_manifest_that_names_other_weights_is_refused(digits_model: Path, tmp_path: Path) -> None:
    """A segment that wants what the weights file does not hold is one typed error."""
    shutil.copytree(digits_model, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / MANIFEST_NAME).read_text()
    name = load_manifest(digits_model).variants["fp32"].segments["0-1"].weights[-1]
    (tmp_path / MANIFEST_NAME).write_text(content.replace(f'"{name}"', '"other"'))
    with pytest.raises(UnknownModel, match="has no weights"):
        Engine(tmp_path).run("fp32", 0, 1, None, [IMAGE])


def test_weights_are_stored_once(digits_model: Path) -> None:
    """A variant's folder is smaller than three whole models, though each weight is in many segments."""
    for name, info in load_manifest(digits_model).variants.items():
        taken = [weight for segment in info.segments.values() for weight in segment.weights]
        assert len(taken) > 5 * len(set(taken))
        assert sum(path.stat().st_size for path in (digits_model / name).iterdir()) < 3 * info.size_bytes


def test_preload_finds_what_is_broken(digits_model: Path, tmp_path: Path) -> None:
    """Preloading needs every segment of the tier it is asked for."""
    shutil.copy(digits_model / MANIFEST_NAME, tmp_path)
    with pytest.raises(UnknownModel, match="cannot be read"):
        Engine(tmp_path).preload("cloud")


def test_preloaded_engine_needs_the_files_no_more(digits_model: Path, tmp_path: Path) -> None:
    """After preload, the tier's runs touch no file."""
    copy = tmp_path / "model"
    shutil.copytree(digits_model, copy)
    engine = Engine(copy)
    engine.preload("device")
    shutil.rmtree(copy)
    for exit, end in enumerate(engine.manifest.exit_ends):
        assert engine.run("int8", 0, end, exit, [IMAGE])[0].shape == (1, 10)
    with pytest.raises(UnknownModel, match="cannot be read"):
        engine.run("int8", 1, 2, None, [IMAGE])


def test_inputs_from_the_wire_are_taken_as_they_are(engine: Engine, digits_model: Path) -> None:
    """Read-only, unaligned and non-contiguous arrays give the answers of ordinary ones."""
    image = load_examples(digits_model, "test").images[0]
    (ordinary,) = engine.run("fp32", 0, 3, None, [image])
    (expected,) = engine.run("fp32", 3, 7, 2, [ordinary])
    unaligned = np.frombuffer(b"x" + ordinary.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(ordinary.shape)
    strided = np.ascontiguousarray(ordinary.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not unaligned.flags.aligned
    assert not strided.flags.c_contiguous
    for tensor in (unaligned, strided):
        np.testing.assert_array_equal(engine.run("fp32", 3, 7, 2, [tensor])[0], expected)


def test_threads_share_an_engine(digits_model: Path) -> None:
    """Many threads that start at once on a cold engine all get the right logits."""
    images = load_examples(digits_model, "test").images[:8]
    reference = Engine(digits_model)
    expected = [reference.run("int8", 0, 7, 2, [image])[0] for image in images]
    shared = Engine(digits_model)
    gate = threading.Barrier(len(images))
    found: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        gate.wait(30)
        tensors = shared.run("int8", 0, index % 7 + 1, None, [images[index]]) if index % 8 < 7 else None
        stop = index % 7 + 1
        found[index] = shared.run("int8", stop, 7, 2, tensors)[0] if tensors else shared.run("int8", 0, 7, 2, [images[index]])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == len(images)
    for index, logits in found.items():
        np.testing.assert_array_equal(logits, expected[index])


def test_inputs_are_left_alone(engine: Engine) -> None:
    """Running changes no input."""
    tensor = np.random.default_rng(0).random((1, 48, 8, 8), dtype=np.float32)
    before = tensor.copy()
    engine.run("fp32", 3, 5, 1, [tensor])
    np.testing.assert_array_equal(tensor, before)


def test_manifest_is_the_directorys(engine: Engine, digits_model: Path) -> None:
    """The engine shows the manifest it runs."""
    assert engine.manifest == load_manifest(digits_model)


@given(arrays(np.float32, (3, 10), elements=st.floats(-(2.0**120), 2.0**120, width=32)))
def test_softmax_is_a_distribution(logits: np.ndarray) -> None:
    """Rows are non-negative, sum to 1 and keep the order, however large the logits."""
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    best = logits.argmax(axis=-1)
    assert (probabilities[np.arange(3), best] == probabilities.max(axis=-1)).all()


def test_softmax_known_value() -> None:
    """exp(0) : exp(ln 3) is 1 : 3."""
    np.testing.assert_allclose(softmax(np.array([0.0, np.log(3)])), [0.25, 0.75], rtol=1e-6)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize(("start", "stop", "exit"), [(0, 3, None), (3, 7, 2), (0, 7, 2), (5, 5, 1)])
def test_rows_of_a_batch_are_what_they_are_alone(
    engine: Engine, digits_model: Path, variant: str, start: int, stop: int, exit: int | None
) -> None:
    """Real pictures through a body, through the rest and its head, and through a head: each row has its own answer."""
    images = [[image] for image in load_examples(digits_model, "test").images[:5]]
    rows = [engine.run(variant, 0, start, None, image) for image in images] if start else images
    together = engine.run_batch(variant, start, stop, exit, rows)
    for found, row in zip(together, rows, strict=True):
        for got, wanted in zip(found, engine.run(variant, start, stop, exit, row), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 if wanted.dtype.kind == "f" else 1)


def test_a_bad_row_spoils_its_batch(engine: Engine) -> None:
    """The engine refuses all of it; whoever runs batches finds out whose fault it is."""
    poisoned = CUT3.copy()
    poisoned[0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidTensor, match="NaN"):
        engine.run_batch("fp32", 3, 5, 1, [[CUT3], [poisoned]])
    with pytest.raises(InvalidTensor, match="got"):
        engine.run_batch("fp32", 3, 5, 1, [[CUT3], [CUT3[:, :1]]])
