"""All that is constant about a simulated topology: what its nodes are made of."""

from __future__ import annotations

from envs.scenario import Scenario
from envs.simulation.events.cargo import Cargos
from envs.simulation.events.looks import Looks
from envs.simulation.events.manifests import TierManifest, tier_manifests
from envs.simulation.events.work import KnownAnswers, Worker
from envs.simulation.frames import pictures_of
from envs.simulation.setup import link_in_force
from envs.workload import background_decision
from runtime.codecs.raw import spec_of
from runtime.errors import InvalidProfile
from runtime.inference.difficulty import DifficultyCard, DifficultyPredictor, ExitDifficulty
from runtime.messages import TIERS, Tier
from runtime.models.examples import Examples
from runtime.profile import LinkProfile, Profile
from runtime.protocol.hosted_models import HostedModels

FREE = LinkProfile(rate_bytes_per_s=1e12, delay_s=0.0)
"""What a real link between edges is taken for: nothing is profiled of it."""


class Scene:
    """Constants of one (scenario, profile, split), shared by its episodes.

    Raises InvalidProfile for a profile that lacks what the scenario's techniques need.
    """

    def __init__(self, scenario: Scenario, profile: Profile, split: str, examples: Examples | None = None) -> None:
        """`examples`: the split's pictures; None loads them where somebody looks at pictures."""
        self.scenario, self.profile, self.split = scenario, profile, split
        self.num_examples = len(next(iter(profile.variants.values())).correct[split][0])
        self.examples = pictures_of(scenario, self.num_examples, split, examples) if looks_at_pictures(scenario) else None
        spec = spec_of(self.examples.images[0]) if self.examples is not None else None
        manifests = tier_manifests(profile, split, spec)
        self.manifests: dict[Tier, TierManifest] = manifests
        self.models = {tier: HostedModels([manifests[tier]]) for tier in TIERS}
        self.loading = profile.needed_loading() if any(map(scenario.topology.loads_late, TIERS)) else None
        self.cargos = Cargos(profile, manifests["device"])
        self.answers = KnownAnswers(profile, split, self.examples.labels if self.examples is not None else None)
        self.workers = {tier: Worker(profile, tier, split, self.cargos, self.answers) for tier in TIERS}
        self._difficulty = self._levels()
        self.looks = {tier: Looks(profile, tier, self.told) for tier in TIERS}
        self.difficulty = {profile.model: asking(profile)} if self._difficulty else {}
        self.uplink = link_in_force(scenario.topology.uplink, profile.uplink)
        self.wan = link_in_force(scenario.topology.wan, profile.wan)
        self.neighbour = link_in_force(scenario.topology.neighbour, FREE)
        self.background = background_decision(scenario.background, profile.model, profile.exit_ends)
        if self.background.variant not in profile.variants:
            raise InvalidProfile(f"background variant {self.background.variant!r} was not profiled; there is {sorted(profile.variants)}")
        self.fixed_fractions = {tier: {profile.model: self._fixed_fractions(tier)} for tier in TIERS}

    def told(self, example: int) -> tuple[float, ...]:
        """What is told of an example's difficulty; empty where nothing is."""
        return self._difficulty[example] if self._difficulty else ()

    def _levels(self) -> list[tuple[float, ...]]:
        """The same of all examples; nothing where nothing is told."""
        profile = self.profile
        if not self.scenario.techniques.difficulty or profile.difficulty is None or not profile.difficulty.targets:
            return []
        return [tuple(column) for column in profile.predicted_errors(self.split).T.tolist()]

    def _fixed_fractions(self, tier: Tier) -> dict[str, float]:
        """By variant, where the tier forms batches.  Raises InvalidProfile when neither scenario nor profile has them."""
        batching, profile = self.scenario.topology.tier(tier).batching, self.profile
        if batching.max_batch == 1:
            return {}
        if batching.fixed_fraction is not None:
            return dict.fromkeys(profile.variants, batching.fixed_fraction)
        measured = {name: info.batch_fixed_fraction for name, info in profile.variants.items()}
        if None in measured.values():
            raise InvalidProfile(
                f"the profile of {profile.model!r} does not say what batches take; measure it again, or set {tier}.batching.fixed_fraction"
            )
        return {name: fraction for name, fraction in measured.items() if fraction is not None}


def looks_at_pictures(scenario: Scenario) -> bool:
    """Whether what happens depends on what pictures show: a filter's frames, or how similar inputs are."""
    topology = scenario.topology
    similar = any(config.cache is not None and config.cache.max_distance is not None for config in map(topology.tier, TIERS))
    return similar or (topology.device.filter is not None and scenario.workload.inputs.stream != "")


def asking(profile: Profile) -> DifficultyPredictor:
    """A predictor that makes a device ask its inspector; what is told is in the profile, so it has no weights."""
    assert profile.difficulty is not None
    exits = tuple(ExitDifficulty(variant=variant, exit=exit, predicted=True) for variant, exit in profile.difficulty.targets)
    return DifficultyPredictor(card=DifficultyCard(model=profile.model, version="", exits=exits), models=())
