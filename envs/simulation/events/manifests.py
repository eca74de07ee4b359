"""A profile as the manifest of a model: what machines ask of the model they serve, without the model.

Every tier has a manifest of its own, whose reference seconds are what was profiled on that tier.  So no simulated tier is
slowed down: what its slowness does is in its seconds.
"""

from __future__ import annotations

import hashlib

import numpy as np

from runtime.loading_profile import VariantLoading
from runtime.messages import TIERS, Decision, TensorSpec, Tier
from runtime.models.manifest import WEIGHTS_NAME, Manifest, SegmentFile, StoredFile, VariantInfo
from runtime.profile import Profile, VariantProfile
from runtime.protocol.payload_sizes import HEADER_BYTES


class TierManifest(Manifest, frozen=True, kw_only=True):
    """One tier's manifest, which knows what the others are expected to take."""

    of_tier: dict[Tier, Manifest]

    def expected_s(self, decision: Decision, tier: Tier) -> float:
        """Seconds of a tier's share, there."""
        return self.of_tier[tier].expected_s(decision, tier)

    def any_batch(self, variant: str, start: int, stop: int, exit: int | None) -> bool:
        """Every segment is taken to run several rows at once."""
        return True


def tier_manifests(profile: Profile, split: str, input_spec: TensorSpec | None = None) -> dict[Tier, TierManifest]:
    """A manifest for each tier; `input_spec` is that of pictures where somebody looks at them."""
    plain = {tier: _manifest(profile, split, tier, input_spec) for tier in TIERS}
    return {tier: _with_others(manifest, plain) for tier, manifest in plain.items()}


def _with_others(manifest: Manifest, plain: dict[Tier, Manifest]) -> TierManifest:
    own = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    return TierManifest(**own, of_tier=plain)


def _manifest(profile: Profile, split: str, tier: Tier, input_spec: TensorSpec | None) -> Manifest:
    return Manifest(
        model=profile.model,
        classes=profile.classes,
        num_stages=profile.num_stages,
        exit_ends=profile.exit_ends,
        variants={name: _variant(profile, name, info, split, tier, input_spec) for name, info in profile.variants.items()},
        dataset="",
        built_on=profile.measured_on,
    )


def _variant(profile: Profile, name: str, info: VariantProfile, split: str, tier: Tier, input_spec: TensorSpec | None) -> VariantInfo:
    num_exits, taken = len(profile.exit_ends), info.exit_taken.get(split, "")
    counts = np.bincount([int(exit) for exit in taken], minlength=num_exits) if taken else np.zeros(num_exits)
    inputs = input_spec or _bytes_spec(info.cut_bytes[0])
    loading = profile.loading.variants.get(name) if profile.loading is not None else None
    return VariantInfo(
        cuts=((inputs,), *((_bytes_spec(size),) for size in info.cut_bytes[1:])),
        segments=_segments(name, loading) if loading is not None else {},
        weights=_weights(name, loading) if loading is not None else None,
        outputs=(TensorSpec(shape=(1, max(1, len(profile.classes))), dtype="float32"),) * num_exits,
        stage_reference_s=info.stage_s[tier],
        head_reference_s=info.head_s[tier],
        accuracy=info.accuracy,
        exit_thresholds=(1.0,) * (num_exits - 1) if taken else (),
        exit_shares=tuple((counts / len(taken)).tolist()) if taken else (),
        size_bytes=info.size_bytes,
    )


def _segments(variant: str, loading: VariantLoading) -> dict[str, SegmentFile]:
    return {
        key: SegmentFile(
            path=key,
            sha256=_name(variant, key),
            num_bytes=num_bytes,
            weights=(WEIGHTS_NAME,) if loading.weights_bytes and key not in loading.standalone else (),
        )
        for key, num_bytes in loading.graph_bytes.items()
    }


def _weights(variant: str, loading: VariantLoading) -> StoredFile | None:
    if not loading.weights_bytes:
        return None
    return StoredFile(path=WEIGHTS_NAME, sha256=_name(variant, WEIGHTS_NAME), num_bytes=loading.weights_bytes)


def _name(variant: str, path: str) -> str:
    """What the file is known by; its content is not known, and taken to be no other file's."""
    return hashlib.sha256(f"{variant}/{path}".encode()).hexdigest()


def _bytes_spec(work_bytes: int) -> TensorSpec:
    """A tensor that makes a Work message that long."""
    return TensorSpec(shape=(1, max(0, work_bytes - HEADER_BYTES)), dtype="uint8")
