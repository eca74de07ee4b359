"""Pictures as raw inputs: whatever the file, what comes out is what the model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from drlctl.pictures import load_picture
from runtime.errors import InvalidTensor
from runtime.messages import TensorSpec

SPEC = TensorSpec(shape=(1, 1, 64, 64), dtype="uint8")


def save_stroke(path: Path, paper: str, ink: str, mode: str = "RGB") -> Path:
    """A thick upright stroke, 20 wide and 80 high, on a 200 x 120 sheet."""
    image = Image.new(mode, (200, 120), paper)
    ImageDraw.Draw(image).rectangle((90, 20, 109, 99), fill=ink)
    image.save(path)
    return path


def test_ink_is_bright_whatever_the_paper(tmp_path: Path) -> None:
    """Black on white and white on black give the same tensor."""
    dark = load_picture(save_stroke(tmp_path / "dark.png", "white", "black"), SPEC)
    bright = load_picture(save_stroke(tmp_path / "bright.png", "black", "white"), SPEC)
    np.testing.assert_array_equal(dark, bright)
    assert dark.shape == (1, 1, 64, 64)
    assert dark.dtype == np.uint8
    assert dark[0, 0, 32, 32] > 200
    assert dark[0, 0, 32, 2] < 10


def test_the_shape_is_kept(tmp_path: Path) -> None:
    """Cropped to its ink, a stroke four times as high as wide fills the height and a quarter of the width."""
    tensor = load_picture(save_stroke(tmp_path / "x.png", "white", "black"), SPEC, smooth=False)[0, 0]
    rows, columns = np.nonzero(tensor > 127)
    assert (rows.min(), rows.max()) == (0, 63)
    assert columns.max() - columns.min() + 1 == pytest.approx(16, abs=1)


def test_without_cropping_the_sheet_is_kept(tmp_path: Path) -> None:
    """The whole sheet is fitted in, with its own proportions."""
    tensor = load_picture(save_stroke(tmp_path / "x.png", "white", "black"), SPEC, crop=False, smooth=False)[0, 0]
    rows, _ = np.nonzero(tensor > 127)
    assert rows.max() - rows.min() + 1 == pytest.approx(64 * 80 / 200, abs=2)


def test_inversion_can_be_forced(tmp_path: Path) -> None:
    """`yes` and `no` are obeyed whatever the border looks like."""
    path = save_stroke(tmp_path / "x.png", "white", "black")
    forced = load_picture(path, SPEC, "yes", crop=False, smooth=False)
    left = load_picture(path, SPEC, "no", crop=False, smooth=False)
    assert forced[0, 0, 32, 32] == 255
    assert left[0, 0, 32, 32] == 0


def test_transparent_parts_are_paper(tmp_path: Path) -> None:
    """Ink on a transparent sheet is ink on white."""
    image = Image.new("RGBA", (200, 120), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((90, 20, 109, 99), fill="black")
    image.save(tmp_path / "clear.png")
    np.testing.assert_array_equal(
        load_picture(tmp_path / "clear.png", SPEC), load_picture(save_stroke(tmp_path / "x.png", "white", "black"), SPEC)
    )


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "I;16"])
def test_every_kind_of_picture(tmp_path: Path, mode: str) -> None:
    """Two-coloured, grey, palette, colour and deep pictures are all read."""
    grey = Image.open(save_stroke(tmp_path / "x.png", "white", "black", "L"))
    path = tmp_path / "y.tiff"
    (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)).save(path)
    assert load_picture(path, SPEC)[0, 0, 32, 32] > 200


def test_deep_pictures_are_not_clipped(tmp_path: Path) -> None:
    """Shades of 16 bits stay apart; values of no known range are refused."""
    shades = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(shades).save(tmp_path / "deep.png")
    read = load_picture(tmp_path / "deep.png", SPEC, "no", crop=False, smooth=False)
    np.testing.assert_allclose(read[0, 0].astype(int), shades // 256, atol=1)
    Image.fromarray(shades.astype(np.float32)).save(tmp_path / "floats.tiff")
    with pytest.raises(InvalidTensor, match="save it with 8 or 16 bits"):
        load_picture(tmp_path / "floats.tiff", SPEC)


def test_an_empty_sheet_is_a_picture(tmp_path: Path) -> None:
    """No ink is no fault."""
    Image.new("L", (50, 30), 255).save(tmp_path / "x.png")
    assert load_picture(tmp_path / "x.png", SPEC).max() == 0


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_not_a_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage and torn files give one typed error that names the file."""
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InvalidTensor, match=r"x\.png"):
        load_picture(tmp_path / "x.png", SPEC)


def test_a_torn_picture_is_refused(tmp_path: Path) -> None:
    """The first half of a picture is not a picture."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidTensor, match=r"x\.png"):
        load_picture(tmp_path / "x.png", SPEC)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A file that unpacks to more than the limit costs nothing."""
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with pytest.raises(InvalidTensor, match="pixels"):
        load_picture(tmp_path / "x.png", SPEC)


def test_a_model_of_another_input_is_named(tmp_path: Path) -> None:
    """A model that does not take one grey channel cannot be given pictures, and the message says what it takes."""
    spec = TensorSpec(shape=(1, 3, 32, 32), dtype="float32")
    with pytest.raises(InvalidTensor, match=r"float32\[1, 3, 32, 32\]"):
        load_picture(save_stroke(tmp_path / "x.png", "white", "black"), spec)
