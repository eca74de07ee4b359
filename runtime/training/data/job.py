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
    test: Examples
    partition: Partition

    def part(self, client: int) -> Examples:
        """What one client has.  Raises InvalidConfig for a client that there is not."""
        if not 0 <= client < len(self.partition.indices):
            raise InvalidConfig(f"client {client} has no data: there are {len(self.partition.indices)} parts")
        return examples_of(self.train, self.partition, client)


def load_job_data(spec: DataSpec) -> JobData:
    """Load and divide.  Raises InvalidDataset for what cannot be read, InvalidConfig for a division that is impossible."""
    if spec.source.startswith(SENSORS):
        return _sensors(spec)
    if spec.partition == "subject":
        raise InvalidConfig(f"only the phone-sensor set says who is who; divide {spec.source!r} with iid or dirichlet")
    dataset = load_dataset(spec.source)
    train = dataset.splits["train"]
    return JobData(classes=dataset.classes, train=train, test=dataset.splits["test"], partition=_divide(train.labels, spec))


def _sensors(spec: DataSpec) -> JobData:
    sensors = load_sensors(spec.source.removeprefix(SENSORS))
    held_out = np.zeros(len(sensors.subjects), dtype=bool)
    for subject in np.unique(sensors.subjects):
        own = np.flatnonzero(sensors.subjects == subject)
        held_out[own[round((1 - TEST_SHARE) * len(own)) :]] = True
    train, test = (_choose(sensors.examples, chosen) for chosen in (~held_out, held_out))
    subjects = sensors.subjects[~held_out]
    partition = by_subject(train.labels, subjects) if spec.partition == "subject" else _divide(train.labels, spec)
    return JobData(classes=ACTIVITIES, train=train, test=test, partition=partition)


def _choose(examples: Examples, chosen: np.ndarray) -> Examples:
    return Examples(images=examples.images[chosen], labels=examples.labels[chosen])


def _divide(labels: np.ndarray, spec: DataSpec) -> Partition:
    rng = np.random.default_rng(spec.seed)
    if spec.partition == "iid":
        return iid(labels, spec.num_clients, rng)
    return dirichlet(labels, spec.num_clients, spec.alpha, rng)
