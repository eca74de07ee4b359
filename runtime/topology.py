"""Tiers and links as data: what stands where, how fast it is, and what of that is emulated."""

from __future__ import annotations

import math

import msgspec

from runtime.energy import ComputePower, RadioPower
from runtime.errors import InvalidConfig
from runtime.inference.batching import NO_BATCHING, BatchingConfig
from runtime.inference.cache import CacheConfig
from runtime.inference.filter import FilterConfig
from runtime.inference.tenancy import ONE_TENANT, TenancyConfig
from runtime.messages import TIERS, Tier
from runtime.protocol.handover import HandoverConfig
from runtime.radios import RADIOS, RadioName
from runtime.rates import ConstantRate, RateConfig

LOOKING_KEYS = ("cache", "filter", "relevance", "difficulty")
"""Keys of a tier that have inputs looked at before anything is computed."""
SHARING_KEYS = ("tenancy", "batching", "handover")
"""Keys of a tier that say who is served when, with whom, and on which of its nodes."""
LOADING_KEYS = ("model_memory_bytes",)
"""Keys of a tier that say what of the models is in memory."""
SIDEWAYS_KEYS = ("num_edges", "neighbour")
"""Keys of a topology about edges beside the first."""
FETCHING_KEYS = ("distribute",)
"""Keys of a topology that say where models' files are."""
MAX_EDGES = 16


def require(condition: bool, message: str) -> None:
    """Raise InvalidConfig with `message` unless `condition` holds (a ValueError, so decoding locates it)."""
    if not condition:
        raise InvalidConfig(message)


class TierConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier's machine."""

    slowdown: float = 1.0
    """Emulation: computations take this many times the model's reference seconds. 1 switches it off."""
    full_model_s: float | None = None
    """Emulation, the other way round: slow down as much as it takes for the full fp32 model to need this long.

    Makes a scenario the same on a faster or slower host; overrides `slowdown`."""
    max_waiting: int = 256
    """Computations that may wait; one more is refused with `overload`."""
    cache: CacheConfig | None = None
    """Answers kept for inputs that come again.  None keeps none."""
    filter: FilterConfig | None = None
    """Device only: frames of a stream that need no inference.  None lets every frame through."""
    relevance: str = ""
    """Device only: file of the model that tells the filter which frames show nothing of interest; empty for none."""
    difficulty: bool = False
    """Device only: tell whoever decides how likely each exit errs on the input; in a scenario `techniques.difficulty` says whether."""
    tenancy: TenancyConfig = ONE_TENANT
    """Who shares the worker, and what each is entitled to."""
    batching: BatchingConfig = NO_BATCHING
    """Which computations run together."""
    model_memory_bytes: int | None = None
    """Most bytes of model files (graphs, and weights once per variant) in memory: what was used least recently makes room.
    With it nothing is loaded before it is needed.  Loading takes the host's time, on emulated tiers too.  None: no bound."""
    handover: HandoverConfig | None = None
    """Edge only: when it hands work to a neighbour.  None does not."""

    def __post_init__(self) -> None:
        require(math.isfinite(self.slowdown) and self.slowdown >= 1, f"slowdown must be >= 1, got {self.slowdown}")
        require(self.full_model_s is None or 0 < self.full_model_s < 60, f"full_model_s must be in (0, 60), got {self.full_model_s}")
        require(self.max_waiting >= 1, f"max_waiting must be >= 1, got {self.max_waiting}")
        most_bytes = self.model_memory_bytes
        require(most_bytes is None or most_bytes >= 1, f"model_memory_bytes must be >= 1, got {most_bytes}")
        require(not self.relevance or self.filter is not None, "relevance is a part of the filter: give the tier a filter too")

    @property
    def emulated(self) -> bool:
        """Whether computations are paced, to stand for slower hardware."""
        return self.full_model_s is not None or self.slowdown > 1

    def slowdown_for(self, full_model_reference_s: float) -> float:
        """The factor in force for a model whose full fp32 form takes the host this long; never below 1."""
        wanted = self.slowdown if self.full_model_s is None else self.full_model_s / full_model_reference_s
        return max(1.0, wanted)


class LinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One link, both ways.  `emulated = false` leaves the real network as it is."""

    emulated: bool = True
    rate: RateConfig = ConstantRate()
    """Payload rate away from the device, bytes per second."""
    down_rate: RateConfig = ConstantRate()
    """Payload rate towards the device."""
    delay_s: float = 0.0
    """One-way propagation delay, added in each direction."""
    jitter_s: float = 0.0
    """Each message is delayed further by a uniform share of this; drawn from (seed, link, direction, request)."""

    def __post_init__(self) -> None:
        require(0 <= self.delay_s < 10, f"delay_s must be in [0, 10), got {self.delay_s}")
        require(0 <= self.jitter_s < 10, f"jitter_s must be in [0, 10), got {self.jitter_s}")


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Device, edge and cloud, the uplink between the first two and the wan between the last two.

    With more than one edge the device is attached to the first; those that hand work over know each other; all have the cloud above.
    """

    device: TierConfig = TierConfig()
    edge: TierConfig = TierConfig()
    cloud: TierConfig = TierConfig()
    uplink: LinkConfig = LinkConfig(emulated=False)
    wan: LinkConfig = LinkConfig(emulated=False)
    num_edges: int = 1
    neighbour: LinkConfig = LinkConfig(emulated=False)
    """Between any two edges: `rate` for work that is handed over, `down_rate` for its answers."""
    distribute: bool = False
    """Only the cloud has the models' files at first; the other nodes fetch what they need from the one above, when they first need it."""
    telemetry_period_s: float = 0.1
    """How often each node asks the one above it how it is."""
    peer_timeout_s: float = 1.0
    """Silence after which a peer counts as lost."""
    max_in_flight: int = 32
    """Unfinished requests the device accepts; one more is refused with `overload`."""
    decision_budget_s: float = 0.02
    """How long the device waits for its controller before it uses its fallback."""
    compute_power: ComputePower = ComputePower()
    radio_power: RadioPower = RadioPower()
    radio: RadioName | msgspec.UnsetType = msgspec.UNSET
    """Name of a published radio (runtime/radios.py) whose parameters become `radio_power`."""

    def __post_init__(self) -> None:
        if not isinstance(self.radio, msgspec.UnsetType):
            named = RADIOS[self.radio]
            require(self.radio_power in (RadioPower(), named), f"give either radio = {self.radio!r} or radio_power, not both")
            msgspec.structs.force_setattr(self, "radio_power", named)
        require(0.005 <= self.telemetry_period_s <= 60, f"telemetry_period_s must be in [0.005, 60], got {self.telemetry_period_s}")
        require(self.peer_timeout_s > self.telemetry_period_s, "peer_timeout_s must be longer than telemetry_period_s")
        require(1 <= self.max_in_flight <= 1024, f"max_in_flight must be in 1..1024, got {self.max_in_flight}")
        require(self.decision_budget_s > 0, f"decision_budget_s must be > 0, got {self.decision_budget_s}")
        require(1 <= self.num_edges <= MAX_EDGES, f"num_edges must be in 1..{MAX_EDGES}, got {self.num_edges}")
        require(
            self.edge.handover is None or self.num_edges > 1, "edge.handover needs somebody to hand work to: set num_edges to 2 or more"
        )
        for name in ("device", "cloud"):
            require(self.tier(name).handover is None, f"{name}.handover: only edges hand work over; move it to edge.handover")
        for name in TIERS[1:]:
            require(self.tier(name).filter is None, f"{name}.filter: only the device filters streams; move it to device.filter")
            require(not self.tier(name).difficulty, f"{name}.difficulty: only the device tells it; move it to device.difficulty")

    def without_reuse(self) -> Topology:
        """The same without looking at inputs, every model in memory, and one edge that does all itself: for measuring profiles."""
        plain = {"cache": None, "filter": None, "relevance": "", "difficulty": False, "handover": None, "model_memory_bytes": None}
        device, edge, cloud = (msgspec.structs.replace(self.tier(name), **plain) for name in TIERS)
        return msgspec.structs.replace(self, device=device, edge=edge, cloud=cloud, num_edges=1, distribute=False)

    def without_sharing(self) -> Topology:
        """The same with one tenant and no batches on every tier."""
        device, edge, cloud = (msgspec.structs.replace(self.tier(name), tenancy=ONE_TENANT, batching=NO_BATCHING) for name in TIERS)
        return msgspec.structs.replace(self, device=device, edge=edge, cloud=cloud)

    def tier(self, tier: Tier) -> TierConfig:
        """The configuration of one tier."""
        return (self.device, self.edge, self.cloud)[TIERS.index(tier)]

    def loads_late(self, tier: Tier) -> bool:
        """Whether that tier's nodes load, or fetch, what they need when they need it: not everything is in memory from the start."""
        return self.tier(tier).model_memory_bytes is not None or self.fetches(tier)

    def fetches(self, tier: Tier) -> bool:
        """Whether that tier's nodes have no models' files at first."""
        return self.distribute and tier != "cloud"

    def emulation_notice(self) -> list[str]:
        """What of this topology is emulated, one sentence each; empty when all of it is real."""
        lines = []
        for name in TIERS:
            tier = self.tier(name)
            if tier.full_model_s is not None:
                lines.append(f"{name}: EMULATED, paced so that the full fp32 model takes {tier.full_model_s * 1e3:g} ms")
            elif tier.slowdown > 1:
                lines.append(f"{name}: EMULATED, {tier.slowdown:g} times slower than this host's reference")
            if tier.batching.max_batch > 1 and tier.emulated:
                lines.append(f"{name}: time of batches MODELLED, {_batch_model(tier.batching)} of a run's time paid once for all its rows")
        for label, link in (("uplink", self.uplink), ("wan", self.wan), ("neighbour", self.neighbour)):
            if link.emulated and (label != "neighbour" or self.num_edges > 1):
                lines.append(
                    f"{label}: EMULATED, {link.rate.describe()}, delay {link.delay_s * 1e3:g} ms, jitter up to {link.jitter_s * 1e3:g} ms"
                )
        states = self.radio_power.around
        if states.promotion_s or states.tail_s:
            lines.append(
                f"radio: MODELLED with a promotion of {states.promotion_s:g} s and a tail of {states.tail_s:g} s after sending;"
                " live requests pay for them, predictions leave them out"
            )
        return lines


def _batch_model(batching: BatchingConfig) -> str:
    return "the measured share" if batching.fixed_fraction is None else f"{batching.fixed_fraction:.0%}"
