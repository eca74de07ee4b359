"""Both filters on a real camera: 51 frames of a highway, in $DRLCTL_DATA/video/frames.

The reference answer is computed, not annotated: a pixel *moves* where it is more than 25 grey levels off the median of
all frames, and a region (the picture in 3 rows of 4) is *occupied* where more than 1 % of its pixels move.  Each
region is a stream of its own.  The filters see neither the median nor full resolution.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from runtime.inference.filter import (
    FilterConfig,
    RecordedStream,
    calibrate_relevance,
    calibrate_threshold,
    fit_relevance,
    relevance_features,
    score,
)
from runtime.inference.filter.background import Background
from runtime.inference.pictures import grey, thumbnail

FOLDER = Path(os.environ.get("DRLCTL_DATA", "")) / "video" / "frames"
NUM_FRAMES, NUM_ROWS, NUM_COLUMNS = 51, 3, 4
PERIOD_S = 0.1
"""The recording does not say its frame rate; ten a second is assumed."""

pytestmark = pytest.mark.skipif(
    not os.environ.get("DRLCTL_DATA") or not FOLDER.is_dir(), reason="needs $DRLCTL_DATA/video/frames, a recorded camera"
)


@pytest.fixture(scope="module")
def regions() -> list[RecordedStream]:
    """Twelve streams with their reference answers."""
    pictures = [np.asarray(Image.open(FOLDER / f"{n}.png").convert("RGB")).transpose(2, 0, 1) for n in range(1, NUM_FRAMES + 1)]
    shades = np.stack([grey(picture) for picture in pictures])
    moving = np.abs(shades - np.median(shades, axis=0)) > 25
    height, width = shades.shape[1] // NUM_ROWS, shades.shape[2] // NUM_COLUMNS
    streams = []
    for row in range(NUM_ROWS):
        for column in range(NUM_COLUMNS):
            place = np.s_[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
            occupied = (moving[place].mean(axis=(1, 2)) > 0.01).astype(np.int64)
            small = np.stack([thumbnail(picture[place], 32) for picture in pictures])
            streams.append(RecordedStream(thumbnails=small, at_s=PERIOD_S * np.arange(NUM_FRAMES), answers=occupied))
    return streams


def part(stream: RecordedStream, start: int, stop: int) -> RecordedStream:
    return RecordedStream(thumbnails=stream.thumbnails[start:stop], at_s=stream.at_s[start:stop], answers=stream.answers[start:stop])


@pytest.mark.parametrize("measure", ["blocked", "mean"])
def test_half_of_the_frames_are_skipped_at_a_miss_target_of_two_per_cent(regions: list[RecordedStream], measure: str) -> None:
    """Calibrated on the first half of the time, held on the second."""
    config = msgspec.convert({"measure": measure, "max_age_s": 1.0}, FilterConfig)
    best = calibrate_threshold([part(stream, 0, 26) for stream in regions], config, 0.02)
    later = score([part(stream, 26, NUM_FRAMES) for stream in regions], msgspec.structs.replace(config, threshold=best.threshold))
    assert best.miss_upper <= 0.02
    assert later.miss_fraction <= 0.02
    assert later.skip_fraction > 0.45


def test_regions_without_vehicles_are_told_from_others(regions: list[RecordedStream]) -> None:
    """Fitted on the first third, calibrated on the second, judged on the last, against a background it learns by itself."""
    thirds: list[list[tuple[np.ndarray, int]]] = [[], [], []]
    for stream in regions:
        background = Background()
        for index, (small, answer) in enumerate(zip(stream.thumbnails, stream.answers, strict=True)):
            thirds[index // 17].append((relevance_features(small, background.update(small)), int(answer)))
    fit, calibrate, judge = [(np.stack([x for x, _ in third]), np.array([y for _, y in third])) for third in thirds]
    model = calibrate_relevance(fit_relevance(*fit), *calibrate, 0.05)
    dropped = np.array([model.is_irrelevant(row) for row in judge[0]])
    assert (dropped & (judge[1] == 1)).sum() <= 0.05 * judge[1].sum()
    assert dropped.mean() > 0.3
