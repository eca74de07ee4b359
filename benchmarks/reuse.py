"""What looking at the input first costs and saves: cache look-ups, and errors of similar hits on perturbed digits.

The pictures are real scans of the test split; their perturbations (noise, shifts, brightness) are synthetic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from runtime.inference.bounds import binomial_upper
from runtime.inference.cache import CacheConfig, Fingerprint, Question, ResultCache, Sketcher, distance_curve, fingerprint
from runtime.inference.difficulty import difficulty_features
from runtime.inference.engine import Engine
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples

BOUNDS = (4, 8, 16, 24, 32, 48, 64)
ASKED = Question(tenant="bench", model="digits-cnn", version="0" * 64, variant="fp32", exit=2)


def main() -> None:
    model = ensure_model("digits-cnn")
    engine = Engine(model)
    sketcher = Sketcher([engine.manifest.input])
    images = load_examples(model, "test").images
    print_look_ups()
    for name, work in (
        ("digest alone", lambda image: fingerprint([image])),
        ("digest and sketch", lambda image: fingerprint([image], sketcher)),
        ("difficulty features", difficulty_features),
        ("full model", lambda image: engine.run("fp32", 0, engine.manifest.num_stages, 2, [image])),
    ):
        print(f"{name:20} {1e6 * median_s(work, list(images)):7.0f} us a picture")
    print_errors(engine, sketcher, images, model)


def print_look_ups() -> None:
    rng = np.random.default_rng(0)
    for num_entries in (1_000, 10_000):
        cache = ResultCache(CacheConfig(max_bytes=1 << 30, max_distance=16))
        known, unknown = ([Fingerprint(digest=rng.bytes(32), sketch=rng.bytes(32)) for _ in range(num_entries)] for _ in range(2))
        for key in known:
            cache.store(ASKED, key, [np.zeros((1, 10), dtype=np.float32)], 0.0)
        look_up = partial(look_up_in, cache)
        exact_s, scan_s = median_s(look_up, known[:1000]), median_s(look_up, unknown[:1000])
        print(f"{num_entries:6} entries: exact hit {1e6 * exact_s:5.1f} us, miss after a full scan {1e6 * scan_s:6.1f} us")


def look_up_in(cache: ResultCache, key: Fingerprint) -> None:
    cache.lookup((ASKED,), key, 0.0)


def print_errors(engine: Engine, sketcher: Sketcher, images: np.ndarray, model: Path) -> None:
    """Each picture, then all of them once more, perturbed."""
    print(f"\nfull fp32 model, {len(images)} pictures of {model.name} and then the same perturbed; bits of 256")
    print(f"{'perturbation':18}{'bits':>5}{'similar':>9}{'wrong':>7}{'error':>8}{'95 % upper':>12}")
    for name, perturb in PERTURBATIONS.items():
        stream = [*images, *(perturb(image, np.random.default_rng((7, index))) for index, image in enumerate(images))]
        answers = np.array([engine.run("fp32", 0, engine.manifest.num_stages, 2, [image])[0].argmax() for image in stream])
        for point in distance_curve([fingerprint([image], sketcher) for image in stream], answers, BOUNDS):
            upper = binomial_upper(point.num_wrong, point.num_similar)
            print(f"{name:18}{point.max_distance:5}{point.num_similar:9}{point.num_wrong:7}{point.error_fraction:8.3f}{upper:12.3f}")


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def shift(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(image, tuple(rng.integers(-2, 3, 2)), axis=(-2, -1))


def brighten(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image * 0.8 + rng.uniform(0, 40), 0, 255).astype(np.uint8)


PERTURBATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "brightness": brighten,
    "noise, 12 levels": noise,
    "shift, 2 pixels": shift,
}


def median_s(work: Callable[..., object], items: Sequence[object]) -> float:
    seconds = []
    for item in items:
        start_s = time.perf_counter()
        work(item)
        seconds.append(time.perf_counter() - start_s)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
