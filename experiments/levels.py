"""The scale of edge intelligence: where each level trains and infers, and what that is on a topology and a model.

            cloud   1            2           3           4            5           6
training    cloud   cloud        cloud       cloud       cloud-edge   in-edge     device
inference   cloud   cloud-edge   in-edge     device      cloud-edge   in-edge     device

Source: Zhou, Chen, Li, Zeng, Luo, Zhang, "Edge Intelligence: Paving the Last Mile of Artificial Intelligence With Edge Computing",
Proceedings of the IEEE 107(8), 2019, the six-level rating; cloud intelligence is what they begin from.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from runtime.errors import InvalidModel
from runtime.messages import TIERS, Architecture, Decision, FitJob, Tier
from runtime.models.manifest import Manifest
from runtime.rates import draw_trace
from runtime.topology import LinkConfig, Topology

Place = Literal["cloud", "cloud-edge", "in-edge", "device"]
"""Who works: the cloud alone, the cloud with those below, those below without the cloud, the device alone."""

ARCHITECTURES: dict[Place, Architecture] = {
    "cloud": "centralised",
    "cloud-edge": "hierarchical",
    "in-edge": "federated",
    "device": "local",
}
"""How a place trains; in-edge with the edge as its root."""
EDGE_ROUNDS = 2
"""Edge averages between two cloud averages where both train, if the job's rounds can be paired."""
NUM_EVALUATIONS = 5
"""Of the weights while they are trained."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A level of the scale."""

    key: str
    name: str
    training: Place
    inference: Place

    @property
    def title(self) -> str:
        """As a sentence names it."""
        return self.key if self.key == "cloud" else f"level {self.key}"


LEVELS = (
    Level(key="cloud", name="cloud intelligence", training="cloud", inference="cloud"),
    Level(key="1", name="cloud-edge co-inference, cloud training", training="cloud", inference="cloud-edge"),
    Level(key="2", name="in-edge co-inference, cloud training", training="cloud", inference="in-edge"),
    Level(key="3", name="on-device inference, cloud training", training="cloud", inference="device"),
    Level(key="4", name="cloud-edge co-training and inference", training="cloud-edge", inference="cloud-edge"),
    Level(key="5", name="all in-edge", training="in-edge", inference="in-edge"),
    Level(key="6", name="all on-device", training="device", inference="device"),
)

_UPWARDS: tuple[Place, ...] = ("cloud", "cloud-edge", "in-edge", "device")


def goes_back(before: str, after: str) -> bool:
    """Whether inference is further from the device at the level `after` than at the one before; False for keys that are none."""
    order = {level.key: _UPWARDS.index(level.inference) for level in LEVELS}
    return before in order and after in order and order[after] < order[before]


def training_jobs(base: FitJob) -> dict[Place, FitJob]:
    """A job for each place that trains: the same network, data and number of local steps, nothing but the place different.

    What only updates have (compressor, privacy, masks, transfer, adaptive tau) is off, for not every place has updates; none
    stops at a target.
    """
    tau = msgspec.structs.replace(base.tau, rule="fixed")
    plain = msgspec.structs.replace(
        base,
        compressor="identity",
        privacy=None,
        transfer=None,
        secure_aggregation=False,
        tau=tau,
        cut=0,
        edge_rounds=1,
        target_accuracy=None,
        evaluate_every=max(1, base.rounds // NUM_EVALUATIONS),
        root="cloud",
        architecture="federated",
    )
    paired: dict[str, object] = {"rounds": base.rounds // EDGE_ROUNDS, "edge_rounds": EDGE_ROUNDS, "evaluate_every": 1}
    changes: dict[Place, dict[str, object]] = {
        "cloud-edge": paired if base.rounds % EDGE_ROUNDS == 0 else {},
        "in-edge": {"root": "edge"},
    }
    return {
        place: msgspec.structs.replace(plain, name=f"training-{place}", architecture=architecture, **changes.get(place, {}))
        for place, architecture in ARCHITECTURES.items()
    }


def at_fixed_pace(topology: Topology, full_model_s: float) -> Topology:
    """The same machines whatever they run, one edge, and nothing that reuses or shares.

    `full_model_s` is the reference time of the model that the topology's own paces are told for, seconds: a tier paced by it
    becomes as many times slower than this host, for training and for every model alike.
    """
    bare = topology.without_reuse().without_sharing()

    def pace(tier: Tier) -> object:
        config = bare.tier(tier)
        return msgspec.structs.replace(config, slowdown=config.slowdown_for(full_model_s), full_model_s=None)

    return msgspec.structs.replace(bare, **{tier: pace(tier) for tier in TIERS})


def allowed_cuts(place: Place, num_stages: int) -> list[tuple[int, int]]:
    """Cuts (p, q) that a place may have.  Offloading to the edge may be whole or in part; to the cloud, at level 1, only in part."""
    end = num_stages
    match place:
        case "cloud":
            return [(0, 0)]
        case "cloud-edge":
            return [(p, q) for q in range(1, end) for p in range(q + 1)]
        case "in-edge":
            return [(p, end) for p in range(end)]
        case "device":
            return [(end, end)]


def placement(place: Place, manifest: Manifest, variant: str, topology: Topology) -> Decision:
    """Of what the place may do, what is predicted to answer soonest on idle links; the full model, no codec.

    Raises InvalidModel for a model of one stage, which cannot be cut between edge and cloud.
    """
    if not allowed_cuts(place, manifest.num_stages):
        raise InvalidModel(f"{manifest.model!r} has one stage: there is no cut between edge and cloud; give a network of several layers")
    decisions = [
        Decision(model=manifest.model, variant=variant, cuts=cuts, exit=len(manifest.exit_ends) - 1)
        for cuts in allowed_cuts(place, manifest.num_stages)
    ]
    return min(decisions, key=lambda decision: predicted_s(manifest, decision, topology))


def predicted_s(manifest: Manifest, decision: Decision, topology: Topology) -> float:
    """Latency when nothing waits, seconds: the tiers' reference times at their pace, raw bytes up, delay there and back."""
    info, end = manifest.variants[decision.variant], manifest.end(decision)
    seconds = sum(topology.tier(tier).slowdown * manifest.expected_s(decision, tier) for tier in TIERS)
    for name, link, cut in zip(("uplink", "wan"), (topology.uplink, topology.wan), decision.cuts, strict=True):
        if cut < end and link.emulated:
            seconds += info.cut_bytes(cut) / _mean_rate(link, name) + 2 * link.delay_s
    return seconds


def _mean_rate(link: LinkConfig, name: str) -> float:
    return float(draw_trace(link.rate, 0, name, "up").mean())
