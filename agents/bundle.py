"""A deployable policy: a folder with `manifest.json` and `weights.safetensors`.  Data only; loading runs no code.

The manifest carries all that is needed to decide: the network's shape, the cost model of the catalogue, the
digests that tie the pieces together, and where the policy comes from.  Nothing is believed that is not
checked: sizes before reading, the manifest against its own digest, the weights against the manifest's,
then names, shapes, dtypes and finiteness.  Whatever is wrong, the answer is InvalidBundle.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as pack_tensors

from agents.files import replace_directory
from agents.network import Float32, NetworkShape, ScoringNetwork
from envs.catalogue import decisions_digest
from envs.costs import CostModel
from envs.features import MYOPIC_INDEX, candidate_fields, schema_of, state_size
from envs.job_config import JobConfig
from envs.job_features import PRIOR_INDEX, TAU_FIELDS
from envs.job_traits import JobTraits
from runtime.errors import InvalidBundle

MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.safetensors"
BUNDLE_SCHEMA = 2
TAU_PREFIX = "tau_"
MAX_MANIFEST_BYTES = 4 << 20
MAX_WEIGHTS_BYTES = 64 << 20


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a policy comes from: enough to train it again."""

    scenario: str
    seed: int
    timesteps: int
    profile_digest: str
    """SHA-256 of the profile's JSON."""
    created_at: str
    """ISO 8601, wall clock."""
    versions: dict[str, str] = {}
    """Package -> version."""


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """All of a bundle but its weights."""

    schema: int = BUNDLE_SCHEMA
    algorithm: Literal["ppo", "dqn"]
    network: NetworkShape
    tau_network: NetworkShape | None = None
    """Of the second part of the action: a row of the cost model's `job.taus`; None where no training job's tau is decided."""
    feature_schema: str
    """Digest of the features' names, meanings and scales that the network was trained on."""
    catalogue_digest: str
    cost_model: CostModel
    """Of the catalogue's decisions, in the order of the actions."""
    provenance: Provenance
    weights_sha256: str = ""
    scores: dict[str, float] = {}
    """policy -> mean cost per request on the same held-out simulated episodes; `learned` is this one."""
    digest: str = ""
    """SHA-256 of this manifest with this field empty."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A verified bundle in memory."""

    manifest: BundleManifest
    arrays: dict[str, Float32]
    """By the names of `tensor_shapes`; the tau network's with TAU_PREFIX in front."""

    def network(self) -> ScoringNetwork:
        """A fresh network with these weights; one per thread."""
        return ScoringNetwork(self.manifest.network, self.arrays)

    def tau_network(self) -> ScoringNetwork | None:
        """The same for taus; None where none is decided."""
        shape = self.manifest.tau_network
        return (
            ScoringNetwork(shape, {name: self.arrays[TAU_PREFIX + name] for name in shape.tensor_shapes()}) if shape is not None else None
        )

    def check_catalogue(self, digest: str) -> None:
        """Raise InvalidBundle unless the bundle was trained for the catalogue with this digest."""
        if digest != self.manifest.catalogue_digest:
            raise InvalidBundle(
                f"the bundle decides for catalogue {self.manifest.catalogue_digest[:12]}, here it is {digest[:12]}: "
                "another model, topology or objective; train a bundle for this scenario"
            )

    def check_difficulty(self, cost_model: CostModel) -> None:
        """Raise InvalidBundle unless the bundle was trained on what this cost model is told of inputs' difficulty."""
        trained, told = (tuple((exit.variant, exit.exit) for exit in each.difficulty) for each in (self.manifest.cost_model, cost_model))
        if trained != told:
            raise InvalidBundle(
                f"the bundle was trained to be told the difficulty of {_exits(trained)}, here it is that of {_exits(told)}:"
                " another profile, or techniques.difficulty switched; train a bundle for this scenario"
            )

    def check_features(self, cost_model: CostModel) -> None:
        """Raise InvalidBundle unless the bundle's network takes the features that there are of this cost model."""
        trained, here = self.manifest.feature_schema, schema_of(cost_model)
        if trained != here:
            raise InvalidBundle(
                f"the bundle was trained on features {trained}, here they are {here}: nodes that load models when they need them, a"
                " job beside the requests, or looking at inputs, there and not here or here and not there; train a bundle for this scenario"
            )

    def other_origin(self, scenario: str, cost_model: CostModel) -> list[str]:
        """For people, a line each: what the bundle was trained for and is not asked here.  It still decides."""
        origin, trained, asked = self.manifest.provenance.scenario, self.manifest.cost_model.objective, cost_model.objective
        lines = [f"the bundle was trained for scenario {origin!r}, here it is {scenario!r}"] if origin != scenario else []
        for name in asked.__struct_fields__:
            then, now = getattr(trained, name), getattr(asked, name)
            if then != now:
                lines.append(f"the bundle was trained for objective.{name} = {then:g}, here it is {now:g}")
        return lines

    def check_taus(self, job: JobTraits | JobConfig | None) -> None:
        """Raise InvalidBundle unless the bundle decides tau among those that this job offers, or none where there is no job."""
        trained, offered = (each.taus if each is not None else () for each in (self.manifest.cost_model.job, job))
        if trained != offered:
            raise InvalidBundle(
                f"the bundle decides {_taus(trained)}, here it is to decide {_taus(offered)}: another scenario's actions; "
                "train a bundle for this scenario"
            )


def _taus(taus: tuple[int, ...]) -> str:
    return f"tau among {', '.join(map(str, taus))}" if taus else "no tau"


def _exits(targets: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{variant} exit {exit}" for variant, exit in targets) or "no exit"


def save_bundle(bundle: Bundle, path: Path) -> Bundle:
    """Write a bundle as a whole: `path` is the old one or the new, never a mixture.  Gives it with its digests filled in.

    Raises OSError with the old bundle intact.
    """
    weights = pack_tensors(dict(sorted(bundle.arrays.items())))
    manifest = msgspec.structs.replace(bundle.manifest, weights_sha256=_sha256(weights), digest="")
    manifest = msgspec.structs.replace(manifest, digest=_manifest_digest(manifest))
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    replace_directory(path, {MANIFEST_NAME: text, WEIGHTS_NAME: weights})
    return msgspec.structs.replace(bundle, manifest=manifest)


def load_bundle(path: Path) -> Bundle:
    """Read and verify a bundle.  Raises InvalidBundle with what is wrong, what was expected and what to do."""
    manifest = _decode_manifest(_read(path / MANIFEST_NAME, MAX_MANIFEST_BYTES), path)
    _check_manifest(manifest, path)
    weights = _read(path / WEIGHTS_NAME, MAX_WEIGHTS_BYTES)
    digest = _sha256(weights)
    if digest != manifest.weights_sha256:
        raise InvalidBundle(
            f"{path / WEIGHTS_NAME} is corrupt or of another bundle: sha256 {digest[:12]}, the manifest says "
            f"{manifest.weights_sha256[:12]}; copy the bundle again"
        )
    return Bundle(manifest=manifest, arrays=_decode_weights(weights, _tensor_shapes(manifest), path))


def _read(path: Path, limit: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidBundle(f"{path} is not a regular file")
        if status.st_size > limit:
            raise InvalidBundle(f"{path} has {status.st_size} bytes, at most {limit} are allowed")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise InvalidBundle(f"cannot read {path}: {exc.strerror}; a bundle is a folder with {MANIFEST_NAME} and {WEIGHTS_NAME}") from exc
    if len(data) > limit:
        raise InvalidBundle(f"{path} grew past {limit} bytes while it was read")
    return data


def _decode_manifest(data: bytes, path: Path) -> BundleManifest:
    try:
        return msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise InvalidBundle(f"{path / MANIFEST_NAME} is not a bundle manifest: {exc}") from exc


def _check_manifest(manifest: BundleManifest, path: Path) -> None:
    where = path / MANIFEST_NAME
    if manifest.schema != BUNDLE_SCHEMA:
        raise InvalidBundle(f"{where} has schema {manifest.schema}, this drlctl reads {BUNDLE_SCHEMA}; train the bundle again")
    digest = _manifest_digest(msgspec.structs.replace(manifest, digest=""))
    if digest != manifest.digest:
        raise InvalidBundle(f"{where} was changed after it was written: digest {digest[:12]}, it says {manifest.digest[:12]}")
    schema = schema_of(manifest.cost_model)
    if manifest.feature_schema != schema:
        raise InvalidBundle(
            f"{where} was trained on features {manifest.feature_schema[:12]}, this drlctl computes {schema[:12]}; train the bundle again"
        )
    num_state, job = state_size(manifest.cost_model), manifest.cost_model.job
    if _sizes(manifest.network) != (num_state, len(candidate_fields(manifest.cost_model)), MYOPIC_INDEX):
        raise InvalidBundle(f"{where}: the network's sizes {_sizes(manifest.network)} are not those of its features")
    expected = (num_state, len(TAU_FIELDS), PRIOR_INDEX) if job is not None else None
    if _sizes(manifest.tau_network) != expected:
        raise InvalidBundle(f"{where}: the tau network's sizes are {_sizes(manifest.tau_network)}, its features need {expected}")
    if decisions_digest(manifest.cost_model.decisions) != manifest.catalogue_digest:
        raise InvalidBundle(f"{where}: the cost model's decisions are not the catalogue {manifest.catalogue_digest[:12]}")


def _sizes(network: NetworkShape | None) -> tuple[int, int, int] | None:
    return (network.state_size, network.candidate_size, network.myopic_index) if network is not None else None


def _tensor_shapes(manifest: BundleManifest) -> dict[str, tuple[int, ...]]:
    of_taus = manifest.tau_network.tensor_shapes() if manifest.tau_network is not None else {}
    return manifest.network.tensor_shapes() | {TAU_PREFIX + name: shape for name, shape in of_taus.items()}


def _decode_weights(data: bytes, expected: dict[str, tuple[int, ...]], path: Path) -> dict[str, Float32]:
    where = path / WEIGHTS_NAME
    try:
        tensors = parse_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise InvalidBundle(f"{where} is not a safetensors file: {exc}") from exc
    if sorted(tensors) != sorted(expected):
        raise InvalidBundle(f"{where} holds tensors {sorted(tensors)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32 or tensor.shape != shape:
            raise InvalidBundle(f"{where}: {name} is {tensor.dtype}{list(tensor.shape)}, expected float32{list(shape)}")
        if not np.isfinite(tensor).all():
            raise InvalidBundle(f"{where}: {name} is not finite")
    for name in ("kappa", f"{TAU_PREFIX}kappa"):
        if name in tensors and not float(tensors[name]) > 0:
            raise InvalidBundle(f"{where}: {name} must be > 0, got {float(tensors[name])}")
    return tensors


def _manifest_digest(manifest: BundleManifest) -> str:
    return _sha256(msgspec.json.encode(manifest, order="deterministic"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
