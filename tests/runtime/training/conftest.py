"""One set of nodes for every live job of this folder: most of what such a test takes is processes that import torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.launch import RunningNodes, launch_nodes
from runtime.topology import Topology


@pytest.fixture(scope="package")
def cluster(digits_model: Path) -> Iterator[RunningNodes]:
    """Cloud, edge and three devices; whoever kills one starts it again."""
    with launch_nodes(Topology(), digits_model, preload=False, num_devices=3) as running:
        yield running
