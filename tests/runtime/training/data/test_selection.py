"""Tasks of some classes, some people, little data, and a part that is the root's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig
from runtime.messages import DataSpec
from runtime.models.examples import Examples
from runtime.models.networks.compact import activity_cnn
from runtime.training.data.job import load_job_data
from runtime.training.data.partition import iid
from runtime.training.data.selection import choose_classes, draw_root_part, limit_clients
from tests.runtime.training.data.test_sensors import recording, write_archive


@settings(max_examples=40)
@given(labels=st.lists(st.integers(0, 5), max_size=40), wanted=st.permutations(range(6)), count=st.integers(1, 6))
def test_chosen_classes_keep_their_examples_and_are_numbered_anew(labels: list[int], wanted: list[int], count: int) -> None:
    """New label k is the old label wanted[k]; pictures stay beside their labels."""
    array = np.array(labels, dtype=np.int64)
    chosen, mask = choose_classes(Examples(images=array[:, None], labels=array), wanted[:count])
    np.testing.assert_array_equal(np.array(wanted)[chosen.labels], chosen.images[:, 0])
    assert mask.sum() == len(chosen.labels) == sum(label in wanted[:count] for label in labels)


def test_the_root_part_and_limits_take_what_they_say() -> None:
    """A fifth of all; three of each client's own; classes still counted."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(5), 20)
    assert draw_root_part(100, 0.2, rng).sum() == 20
    partition = iid(labels, 4, rng)
    limited = limit_clients(partition, labels, 3, rng)
    assert [len(own) for own in limited.indices] == [3, 3, 3, 3]
    assert all(set(few) <= set(own) for few, own in zip(limited.indices, partition.indices, strict=True))
    assert limited.histograms.sum(axis=1).tolist() == [3, 3, 3, 3]


def test_a_job_has_its_classes_and_nobody_has_the_roots_examples() -> None:
    """Train, test and the root's own part of two classes, each example once; the same for everybody who asks."""
    spec = DataSpec(classes=("7", "3"), root_fraction=0.25, num_clients=3, partition="iid")
    whole, data = load_job_data(DataSpec(classes=("7", "3"), num_clients=3, partition="iid")), load_job_data(spec)
    assert data.classes == ("7", "3")
    assert set(np.unique(data.test.labels)) == {0, 1}
    assert len(data.own.labels) == round(0.25 * len(whole.train.labels))
    parts = [data.own, *(data.part(client) for client in range(3))]
    assert sum(len(part.labels) for part in parts) == len(whole.train.labels)
    pictures = {picture.tobytes() for part in parts for picture in part.images}
    assert pictures == {picture.tobytes() for picture in whole.train.images}
    np.testing.assert_array_equal(load_job_data(spec).own.images, data.own.images)


def test_people_can_be_chosen_and_their_windows_are_what_the_network_takes(tmp_path: Path) -> None:
    """Two of three people, a client each; a window is a picture of one channel."""
    files = {f"s{number:02d}/s{number:02d}_01_sp.csv": recording(*["SEATED", "WALKING"] * 256) for number in (1, 2, 3)}
    source = f"sensors:{write_archive(tmp_path / 'a.tar.gz', files)}"
    data = load_job_data(DataSpec(source=source, partition="subject", num_clients=2, subjects=(3, 1)))
    assert len(data.partition.indices) == 2
    assert activity_cnn(width=0.25)(torch.tensor(data.part(0).images[:, 0])).shape == (len(data.part(0).labels), 5)
    with pytest.raises(InvalidConfig, match="nobody of number 9"):
        load_job_data(DataSpec(source=source, partition="subject", subjects=(9,)))


def test_choices_that_data_do_not_have_are_refused() -> None:
    """By name, with what there is."""
    with pytest.raises(InvalidConfig, match="no class 'cat'; there is 0, 1"):
        load_job_data(DataSpec(classes=("cat",)))
    with pytest.raises(InvalidConfig, match="only the phone-sensor set"):
        load_job_data(DataSpec(subjects=(1,)))
    with pytest.raises(ValueError, match="root_fraction"):
        DataSpec(root_fraction=1.0)
    with pytest.raises(ValueError, match="named once"):
        DataSpec(classes=("1", "1"))
