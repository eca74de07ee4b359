"""The examples of a training job: loaded by every node from its own disk, divided the same way everywhere.

A client uses its own part only.  On one host all parts come from the same files, so that "data that never left their owner" is
counted by what crossed the links, and is not a matter of where the files lie.
"""

from __future__ import annotations

import msgspec
import numpy as np

from runtime.errors import InvalidConfig
from runtime.messages import DataSpec
from runtime.models.datasets import load_dataset
from runtime.models.examples import Examples
from runtime.training.data.partition import Partition, by_subject, dirichlet, examples_of, iid
from runtime.training.data.selection import choose_classes, class_numbers, draw_root_part, limit_clients
from runtime.training.data.sensors import CLASSES as ACTIVITIES
from runtime.training.data.sensors import load_sensors

SENSORS = "sensors:"
"""Before the path of the phone-sensor archive."""
TEST_SHARE = 0.2
"""Of each person's windows, the last ones: windows overlap, and a random split would test on what was trained on."""


class JobData(msgspec.Struct, frozen=True, kw_only=True):
    """Examples to train on, whose they are, and those to test on, which are nobody's."""

    classes: tuple[str, ...]
    train: Examples
    """The clients'."""
    own: Examples
    """The root's."""
    test: Examples
    partition: Partition

    def part(self, client: int) -> Examples:
        """What one client has.  Raises InvalidConfig for a client that there is not."""
        if not 0 <= client < len(self.partition.indices):
            raise InvalidConfig(f"client {client} has no data: there are {len(self.partition.indices)} parts")
        return examples_of(self.train, self.partition, client)


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    classes: tuple[str, ...]
    train: Examples
    subjects: np.ndarray | None
    """int64 [N], whose each example of `train` is; None where nobody knows."""
    test: Examples


def load_job_data(spec: DataSpec) -> JobData:
    """Load, choose and divide.  Raises InvalidDataset for what cannot be read, InvalidConfig for a division that is impossible."""
    source = _task(_load(spec), spec.classes)
    rng = np.random.default_rng([spec.seed, 1])
    own = draw_root_part(len(source.train.labels), spec.root_fraction, rng)
    train = _choose(source.train, ~own)
    partition = _divide(train.labels, source.subjects[~own] if source.subjects is not None else None, spec)
    if spec.examples_per_client:
        partition = limit_clients(partition, train.labels, spec.examples_per_client, rng)
    return JobData(classes=source.classes, train=train, own=_choose(source.train, own), test=source.test, partition=partition)


def _load(spec: DataSpec) -> _Source:
    if spec.source.startswith(SENSORS):
        return _sensors(spec)
    if spec.partition == "subject" or spec.subjects:
        raise InvalidConfig(f"only the phone-sensor set says who is who; divide {spec.source!r} with iid or dirichlet, and choose nobody")
    dataset = load_dataset(spec.source)
    return _Source(classes=dataset.classes, train=dataset.splits["train"], subjects=None, test=dataset.splits["test"])


def _sensors(spec: DataSpec) -> _Source:
    sensors = load_sensors(spec.source.removeprefix(SENSORS))
    missing = set(spec.subjects) - set(sensors.subjects.tolist())
    if missing:
        raise InvalidConfig(f"the archive has nobody of number {min(missing)}; there is {np.unique(sensors.subjects).tolist()}")
    held_out = np.zeros(len(sensors.subjects), dtype=bool)
    for subject in np.unique(sensors.subjects):
        own = np.flatnonzero(sensors.subjects == subject)
        held_out[own[round((1 - TEST_SHARE) * len(own)) :]] = True
    wanted = np.isin(sensors.subjects, spec.subjects) if spec.subjects else np.ones_like(held_out)
    windows = Examples(images=sensors.examples.images[:, None], labels=sensors.examples.labels)  # one picture of one channel each
    train, test = (_choose(windows, chosen & wanted) for chosen in (~held_out, held_out))
    return _Source(classes=ACTIVITIES, train=train, subjects=sensors.subjects[~held_out & wanted], test=test)


def _task(source: _Source, classes: tuple[str, ...]) -> _Source:
    """With these classes alone; all for none."""
    if not classes:
        return source
    numbers = class_numbers(source.classes, classes)
    train, chosen = choose_classes(source.train, numbers)
    test, _ = choose_classes(source.test, numbers)
    if not len(train.labels) or not len(test.labels):
        raise InvalidConfig(f"there is nothing of classes {', '.join(classes)} to train on, or to test on")
    subjects = source.subjects[chosen] if source.subjects is not None else None
    return _Source(classes=classes, train=train, subjects=subjects, test=test)


def _choose(examples: Examples, chosen: np.ndarray) -> Examples:
    return Examples(images=examples.images[chosen], labels=examples.labels[chosen])


def _divide(labels: np.ndarray, subjects: np.ndarray | None, spec: DataSpec) -> Partition:
    if spec.partition == "subject":
        assert subjects is not None, "what has no subjects was refused"
        return by_subject(labels, subjects)
    rng = np.random.default_rng(spec.seed)
    if spec.partition == "iid":
        return iid(labels, spec.num_clients, rng)
    return dirichlet(labels, spec.num_clients, spec.alpha, rng)
