"""The frames that streams bring, as the device's filter sees them: thumbnails of the very pictures that are sent live."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.inputs import perturbed_picture
from envs.scenario import Scenario
from envs.workload import Requests
from runtime.errors import InvalidProfile
from runtime.inference.pictures import thumbnail
from runtime.models.build import ensure_model
from runtime.models.examples import Examples
from runtime.models.played import load_played
from runtime.profile import Profile


def watches(scenario: Scenario) -> bool:
    """Whether the device's filter looks at the requests: there is one, and they are the frames of a stream."""
    return scenario.topology.device.filter is not None and scenario.workload.inputs.stream != ""


def pictures_of(scenario: Scenario, num_examples: int, split: str, examples: Examples | None) -> Examples:
    """Those that live requests bring and the profile judged: `examples`, or loaded (the model is built where it must).

    Raises InvalidProfile unless there are `num_examples` of them.
    """
    found = examples if examples is not None else load_played(ensure_model(scenario.model), split)
    if len(found.images) != num_examples:
        raise InvalidProfile(f"the profile is of {num_examples} {split!r} pictures, the model has {len(found.images)}; measure it again")
    return found


class Frames:
    """Thumbnails of one split's pictures, and of what perturbations make of them."""

    def __init__(self, scenario: Scenario, num_examples: int, split: str, examples: Examples | None) -> None:
        """`examples` and errors as of `pictures_of`."""
        config = scenario.topology.device.filter
        assert config is not None
        examples = pictures_of(scenario, num_examples, split, examples)
        self.config, self._inputs, self._images = config, scenario.workload.inputs, examples.images
        self.labels = examples.labels
        self._plain = np.stack([thumbnail(image, config.side) for image in examples.images])

    def draw(self, seeds: Sequence[int], drawn: Sequence[Requests]) -> tuple[np.ndarray, np.ndarray]:
        """(thumbnails float32 [U, rows, columns], int64 [P * R]: each request's) of the episodes of these seeds."""
        thumbnails, places = [self._plain], []
        num = len(self._plain)
        for seed, requests in zip(seeds, drawn, strict=True):
            own = requests.perturbed.nonzero()[0]
            if len(own):
                pictures = (perturbed_picture(self._inputs, seed, index, self._images[requests.example[index]]) for index in own.tolist())
                thumbnails.append(np.stack([thumbnail(picture, self.config.side) for picture in pictures]))
            place = requests.example.copy()
            place[own] = np.arange(num, num + len(own))
            places.append(place)
            num += len(own)
        return np.concatenate(thumbnails), np.concatenate(places)


def frames_of(scenario: Scenario, profile: Profile, num_examples: int, split: str, examples: Examples | None) -> Frames | None:
    """None where no frame is ever skipped: nobody looks, the threshold is 0, or the model's answers are no classes."""
    config = scenario.topology.device.filter
    if config is None or config.threshold == 0 or not watches(scenario) or not profile.classes:
        return None
    return Frames(scenario, num_examples, split, examples)
