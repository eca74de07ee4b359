"""A scenario: topology, links, workload, model and objective in one TOML file.

It lives here and not with the experiments because an environment cannot be made without one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from envs.job_config import JobConfig, check_beside
from envs.reward import Objective
from envs.workload import BackgroundConfig, WorkloadConfig
from runtime.codecs import find_codec
from runtime.config import decode_config, load_toml
from runtime.errors import InvalidConfig
from runtime.messages import TIERS, FitJob
from runtime.topology import FETCHING_KEYS, LOADING_KEYS, LOOKING_KEYS, SHARING_KEYS, SIDEWAYS_KEYS, Topology

SCENARIO_DIR = Path(__file__).parent / "scenarios"


class Techniques(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decisions may use beside cuts, exits and variants."""

    codecs: tuple[str, ...] = ("identity",)
    """How tensors may be written on the links (runtime/codecs); identity is always one of them."""
    early_exit: bool = False
    """Whether requests may leave at the first confident exit."""
    difficulty: bool = False
    """Whether the device looks at each input first and tells whoever decides how likely each exit errs on it."""

    def __post_init__(self) -> None:
        if "identity" not in self.codecs or len(set(self.codecs)) != len(self.codecs):
            raise ValueError(f"techniques.codecs needs 'identity' and each name once, got {list(self.codecs)}")
        for name in self.codecs:
            find_codec(name)


NO_TECHNIQUES = Techniques()


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and on what the agent trains for this scenario."""

    timesteps: int = 200_000
    num_envs: int = 64


class EvaluationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How policies are compared."""

    seeds: tuple[int, ...] = (1001, 1002, 1003)
    num_requests: int = 200
    """Per seed and policy, live."""
    keep_awake: bool | None = None
    """Leave no processor at rest while something is measured (runtime/awake.py); unset: where this is a virtual machine."""
    max_repeats: int = 6
    """Live episodes that are played again because the machine's host took its processors away meanwhile; 0: nor is the
    profile measured again for that."""

    def __post_init__(self) -> None:
        if not self.seeds or self.num_requests < 1 or self.max_repeats < 0:
            raise ValueError(
                "an evaluation has seeds, num_requests >= 1 and max_repeats >= 0;"
                f" got {list(self.seeds)}, {self.num_requests} and {self.max_repeats}"
            )


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that defines one problem."""

    name: str
    description: str = ""
    model: str = "digits-cnn"
    """The one that the workload's requests are for."""
    other_models: tuple[str, ...] = ()
    """Those that the same nodes serve to others."""
    topology: Topology = Topology()
    workload: WorkloadConfig = WorkloadConfig()
    background: BackgroundConfig = BackgroundConfig()
    objective: Objective = Objective()
    techniques: Techniques = NO_TECHNIQUES
    fit: FitJob = FitJob()
    """What `drlctl fit` trains on the topology, with as many devices as the job's data have clients."""
    job: JobConfig | None = None
    """That it trains beside the requests too; None: it does not."""
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def __post_init__(self) -> None:
        if self.job is not None:
            check_beside(self.job, self.fit)
        if self.techniques.difficulty != self.topology.device.difficulty:
            device = msgspec.structs.replace(self.topology.device, difficulty=self.techniques.difficulty)
            msgspec.structs.force_setattr(self, "topology", msgspec.structs.replace(self.topology, device=device))

    @property
    def num_devices(self) -> int:
        """That its nodes have: with a job beside the requests one for each of its clients, the first of which has the requests."""
        return self.fit.data.num_clients if self.job is not None else 1

    @property
    def models(self) -> tuple[str, ...]:
        """All that the nodes serve, the workload's first."""
        return (self.model, *self.other_models)

    def of_model(self, model: str) -> Scenario:
        """The same for requests to another model."""
        return msgspec.structs.replace(self, model=model)

    def of_fit(self, job: FitJob) -> Scenario:
        """The same with another job to train."""
        return msgspec.structs.replace(self, fit=job)

    def topology_digest(self) -> str:
        """SHA-256 over what a profile depends on: the model, the topology, and the codecs if there are any.

        Caches, filters and further edges are left out: profiles are measured without them.
        """
        codecs = [self.techniques.codecs] if self.techniques.codecs != NO_TECHNIQUES.codecs else []
        topology = msgspec.to_builtins(self.topology, order="deterministic")
        for tier in TIERS:  # a profile holds what one request takes alone
            for name in (*LOOKING_KEYS, *SHARING_KEYS, *LOADING_KEYS):
                del topology[tier][name]
        for name in (*SIDEWAYS_KEYS, *FETCHING_KEYS):
            del topology[name]
        data = msgspec.json.encode([self.model, topology, *codecs])
        return hashlib.sha256(data).hexdigest()


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by name, or any TOML file by path.  Raises InvalidConfig naming key and allowed values."""
    text = str(name_or_path)
    if text in shipped_scenarios():
        return decode_config(load_toml(SCENARIO_DIR / f"{text}.toml"), Scenario, f"scenario {text}")
    path = Path(text)
    if path.suffix != ".toml" and not path.exists():
        raise InvalidConfig(f"no scenario {text!r}; shipped: {', '.join(shipped_scenarios())}; or give a path to a .toml file")
    return decode_config(load_toml(path), Scenario, str(path))


def shipped_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with drlctl, sorted."""
    return tuple(sorted(path.stem for path in SCENARIO_DIR.glob("*.toml")))
