"""The scale of levels: which jobs, which cuts, at which pace, and where each infers; by hand."""

from __future__ import annotations

import msgspec
import pytest

from experiments.levels import LEVELS, allowed_cuts, at_fixed_pace, placement, predicted_s, training_jobs
from runtime.errors import InvalidModel
from runtime.messages import DataSpec, Decision, FitJob, PrivacyConfig, TauSpec, TensorSpec
from runtime.models.manifest import Manifest, VariantInfo
from runtime.rates import ConstantRate
from runtime.topology import LinkConfig, TierConfig, Topology

TOPOLOGY = Topology(
    device=TierConfig(slowdown=10.0),
    edge=TierConfig(slowdown=2.0),
    uplink=LinkConfig(rate=ConstantRate(bytes_per_s=1000.0), delay_s=0.5),
    wan=LinkConfig(rate=ConstantRate(bytes_per_s=2000.0), delay_s=2.0),
)


def make_manifest(num_stages: int = 3) -> Manifest:
    """Stages of 1 s each and a head of 0.5 s; cuts of 400, 4000, 2000 and 100 bytes."""
    sizes = (400, 4000, 2000, 100)[: num_stages + 1]
    info = VariantInfo(
        cuts=tuple((TensorSpec(shape=(1, size), dtype="uint8"),) for size in sizes),
        segments={},
        stage_reference_s=(1.0,) * num_stages,
        head_reference_s=(0.5,),
        accuracy={},
        size_bytes=0,
    )
    return Manifest(
        model="m", classes=("a", "b"), num_stages=num_stages, exit_ends=(num_stages,), variants={"fp32": info}, dataset="", built_on=""
    )


def test_levels_move_inference_first_and_training_after() -> None:
    """Cloud training up to level 3; from 4 on both are in one place."""
    assert [level.key for level in LEVELS] == ["cloud", "1", "2", "3", "4", "5", "6"]
    assert {level.training for level in LEVELS[:4]} == {"cloud"}
    assert all(level.training == level.inference for level in LEVELS[4:])


def test_jobs_differ_by_their_place_alone() -> None:
    """The same number of local steps of each client, whatever the base job switched on."""
    base = FitJob(
        rounds=8,
        tau=TauSpec(rule="decided", tau=4),
        compressor="qsgd8",
        target_accuracy=0.9,
        privacy=PrivacyConfig(max_norm=1.0, noise_multiplier=0.0, sampling_fraction=1.0),
        data=DataSpec(root_fraction=0.2),
    )
    jobs = training_jobs(base)
    assert {place: (job.architecture, job.root) for place, job in jobs.items()} == {
        "cloud": ("centralised", "cloud"),
        "cloud-edge": ("hierarchical", "cloud"),
        "in-edge": ("federated", "edge"),
        "device": ("local", "cloud"),
    }
    for job in jobs.values():
        assert job.rounds * job.edge_rounds * job.tau.tau == 32
        assert (job.network, job.data, job.local) == (base.network, DataSpec(), base.local)
        assert (job.target_accuracy, job.tau.rule) == (None, "fixed")
    odd = training_jobs(FitJob(rounds=3))
    assert (odd["cloud-edge"].rounds, odd["cloud-edge"].edge_rounds) == (3, 1)
    assert len({job.name for job in odd.values()}) == 4


def test_each_place_has_its_cuts() -> None:
    """Level 1 never all in the cloud, level 2 never the cloud, each with every cut that leaves somebody else something to do."""
    assert allowed_cuts("cloud", 3) == [(0, 0)]
    assert allowed_cuts("cloud-edge", 3) == [(0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    assert allowed_cuts("in-edge", 3) == [(0, 3), (1, 3), (2, 3)]
    assert allowed_cuts("device", 3) == [(3, 3)]


def test_predicted_latency_is_the_sum_of_its_parts() -> None:
    """Device 10 s a stage, edge 2 s, cloud 1 s; raw bytes over the rate, and the delay there and back."""

    def seconds(*cuts: int) -> float:
        return predicted_s(make_manifest(), Decision(model="m", variant="fp32", cuts=cuts, exit=0), TOPOLOGY)

    assert seconds(3, 3) == pytest.approx(10 * 3.5)
    assert seconds(0, 3) == pytest.approx(2 * 3.5 + 0.4 + 1.0)
    assert seconds(0, 0) == pytest.approx(3.5 + 0.4 + 1.0 + 0.2 + 4.0)
    assert seconds(1, 2) == pytest.approx(10 + 2 + 1.5 + 4.0 + 1.0 + 1.0 + 4.0)


def test_of_what_a_place_may_do_the_soonest_is_done() -> None:
    """Over a slower wan (0,1) takes 13.9 s and (0,2) 12.9 s; in-edge the picture is sent, for every cut carries more."""
    manifest = make_manifest()
    cheaper = msgspec.structs.replace(TOPOLOGY, wan=LinkConfig(rate=ConstantRate(bytes_per_s=1000.0), delay_s=2.0))
    assert placement("cloud-edge", manifest, "fp32", cheaper).cuts == (0, 2)
    assert placement("in-edge", manifest, "fp32", TOPOLOGY).cuts == (0, 3)
    assert placement("device", manifest, "fp32", TOPOLOGY).cuts == (3, 3)
    assert placement("cloud", manifest, "fp32", TOPOLOGY).cuts == (0, 0)
    with pytest.raises(InvalidModel, match="one stage"):
        placement("cloud-edge", make_manifest(1), "fp32", TOPOLOGY)


def test_machines_keep_their_pace_whatever_they_run() -> None:
    """60 ms for a model that takes this host 2 ms is 30 times slower, for any model; real tiers stay real."""
    told = Topology(
        device=TierConfig(full_model_s=0.06), edge=TierConfig(full_model_s=0.01), cloud=TierConfig(slowdown=1.5), uplink=TOPOLOGY.uplink
    )
    topology = at_fixed_pace(told, 0.002)
    assert (topology.device.slowdown, topology.edge.slowdown, topology.cloud.slowdown) == pytest.approx((30.0, 5.0, 1.5))
    assert topology.device.full_model_s is None
    assert topology.uplink == told.uplink
    assert at_fixed_pace(Topology(num_edges=3), 0.002) == Topology()
