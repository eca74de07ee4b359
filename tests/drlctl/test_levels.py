"""`drlctl levels`: every level answers where it should, on live nodes, and what cannot be served is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from drlctl.level_serving import serve_levels
from experiments.level_measures import Served, inference_measures
from experiments.levels import LEVELS
from runtime.errors import InvalidConfig
from runtime.messages import DataSpec, FitJob
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig, Topology
from runtime.training.export import check_servable

LINK = LinkConfig(rate=ConstantRate(bytes_per_s=20e6), down_rate=ConstantRate(bytes_per_s=20e6))


@pytest.mark.slow
def test_every_level_answers_where_it_should(digits_model: Path, tmp_path: Path) -> None:
    """Paths of two, two, one and no links; only what leaves is exposed; every request is kept, and the same pictures are played."""
    networks = dict.fromkeys(("cloud", "cloud-edge", "in-edge", "device"), (digits_model,))
    records = tmp_path / "records.jsonl"
    shown: list[float] = []
    served = serve_levels(
        Topology(uplink=LINK, wan=LINK), networks, 3, seed=0, records=records, progress=lambda text, share: shown.append(share)
    )
    measures = {key: inference_measures(ones) for key, ones in served.items()}
    assert [one.num_links for one in measures.values()] == [2, 2, 1, 0, 2, 1, 0]
    assert [one.wan_bytes > 0 for one in measures.values()] == [True, True, False, False, True, False, False]
    assert (measures["cloud"].exposed, measures["3"].exposed) == (1.0, 0.0)
    assert len({tuple(one.example for one in ones) for ones in served.values()}) == 1
    kept = [msgspec.json.decode(line, type=Served) for line in records.read_bytes().splitlines()]
    assert [one.level for one in kept[:7]] == [level.key for level in LEVELS]
    assert kept[7].level == "1"  # the first one takes turns
    assert len(kept) == 3 * len(LEVELS)
    assert shown == sorted(shown)


def test_what_cannot_be_served_is_refused() -> None:
    """Windows of sensors are no pictures."""
    with pytest.raises(InvalidConfig, match="give digits or a folder of pictures"):
        check_servable(FitJob(data=DataSpec(source="sensors:/nowhere")))
