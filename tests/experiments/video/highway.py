"""A drawn camera: a grey road and one bright car that drives down it, again and again."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH = 64, 96
CAR = (14, 20)
SPEED = 5


def draw_highway(num_frames: int, noise: float = 4.0, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """(frames uint8 [N, 64, 96, 3], (top, left, height, width) of the car in each)"""
    rng = np.random.default_rng(seed)
    road = np.full((HEIGHT, WIDTH, 3), 100.0)
    road[:, :32] = (40, 90, 40)
    frames, boxes = [], []
    for index in range(num_frames):
        top = index * SPEED % (HEIGHT - CAR[0])
        frame = road + rng.normal(0, noise, road.shape)
        frame[top : top + CAR[0], 48 : 48 + CAR[1]] += 120
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
        boxes.append((top, 48, *CAR))
    return np.stack(frames), boxes
