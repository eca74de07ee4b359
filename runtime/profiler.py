"""Measuring a model on running nodes: seconds per stage and tier, bytes per cut, links, memory, leakage.

Overheads stay zero here; they are fitted against the simulator from recorded requests (envs/calibration.py).
"""

from __future__ import annotations

import datetime
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from runtime.codec import num_bytes, to_frames
from runtime.codec_profiler import profile_codecs
from runtime.codecs.parcel import IDENTITY
from runtime.host import least_disturbed
from runtime.inference.batch_cost import measure_fixed_fraction
from runtime.inference.confidence import take_exits
from runtime.inference.engine import Engine
from runtime.messages import TIERS, Decision, LinkView, Result, Span, Tier, Work
from runtime.models.examples import SPLITS
from runtime.models.leakage import distance_correlation
from runtime.models.manifest import Manifest
from runtime.models.played import load_played, load_played_judgement
from runtime.profile import LinkProfile, Overheads, Profile, VariantProfile, write_bits
from runtime.session import Session
from runtime.transport import Context

REPEATS = 15
"""Timings of each stage; the median counts."""
MAX_ATTEMPTS = 3
"""Of timing a tier, while this machine's host takes its processors away."""
LEAKAGE_EXAMPLES = 200
LARGEST_BATCH = 8
"""Rows up to which it is measured what batches take."""

Progress = Callable[[str, float], None]
VariantTimes = dict[str, tuple[list[float], list[float]]]
"""Variant -> (seconds of each stage, seconds of each exit's head)."""


def measure_profile(
    addresses: Mapping[str, str],
    model_dir: Path,
    *,
    scenario: str,
    scenario_digest: str,
    codecs: Sequence[str] = (),
    max_attempts: int = MAX_ATTEMPTS,
    progress: Progress | None = None,
) -> Profile:
    """Time every stage of every variant on every tier, and note what crosses each cut, as it is and in each of `codecs`.

    `addresses` are those of one node of each tier, by its name.  A tier is timed up to `max_attempts` times while the host
    disturbs it.  Raises PeerLost when a node does not answer.
    """
    say = progress or (lambda text, fraction: None)
    engine = Engine(model_dir)
    manifest = engine.manifest
    times: dict[Tier, VariantTimes] = {}
    stolen: dict[Tier, float | None] = {}
    memory_bytes: dict[str, int] = {}
    with Context() as context:
        for index, tier in enumerate(TIERS):
            say(f"timing {len(manifest.variants)} variants on the {tier}", index / 4)
            with Session(context, addresses[tier]) as session:
                times[tier], stolen[tier] = least_disturbed(partial(_time_variants, session, manifest), max_attempts)
                memory_bytes[tier] = session.status().telemetry[0].memory_bytes
        with Session(context, addresses["device"]) as session:
            links = session.status().links
    say("privacy: distance correlation at each cut", 0.75)
    variants = {variant: _variant_profile(engine, model_dir, variant, times) for variant in manifest.variants}
    if names := [codec for codec in codecs if codec != IDENTITY]:
        for index, (variant, info) in enumerate(variants.items()):
            say(f"codecs on {variant}: {', '.join(names)}", 0.8 + 0.2 * index / len(variants))
            variants[variant] = msgspec.structs.replace(info, codecs=profile_codecs(engine, model_dir, variant, info, names))
    return Profile(
        model=manifest.model,
        scenario=scenario,
        scenario_digest=scenario_digest,
        measured_on=platform.node(),
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        classes=manifest.classes,
        exit_ends=manifest.exit_ends,
        variants=variants,
        result_bytes=_result_bytes(manifest),
        uplink=_link_profile(links, 0),
        wan=_link_profile(links, 1),
        overheads=Overheads(),
        memory_bytes=memory_bytes,
        host_steal=max((share for share in stolen.values() if share is not None), default=None),
    )


def _time_variants(session: Session, manifest: Manifest) -> VariantTimes:
    return {variant: _time_variant(session, manifest, variant) for variant in manifest.variants}


def _time_variant(session: Session, manifest: Manifest, variant: str) -> tuple[list[float], list[float]]:
    """(seconds of each stage, seconds of each exit's head): a head's time is that of its stage with it, less without."""

    def median_s(start: int, stop: int, exit: int | None) -> float:
        return statistics.median(session.measure(manifest.model, variant, start, stop, exit, REPEATS).tier_s)

    stages = [median_s(stage, stage + 1, None) for stage in range(manifest.num_stages)]
    heads = [max(0.0, median_s(end - 1, end, exit) - stages[end - 1]) for exit, end in enumerate(manifest.exit_ends)]
    return stages, heads


def _variant_profile(engine: Engine, model_dir: Path, variant: str, times: dict[Tier, VariantTimes]) -> VariantProfile:
    manifest = engine.manifest
    info = manifest.variants[variant]
    judged = {split: load_played_judgement(model_dir, split, variant) for split in SPLITS}
    taken = {split: take_exits(each.entropies, info.exit_thresholds) for split, each in judged.items()} if info.exit_thresholds else {}
    return VariantProfile(
        stage_s={tier: tuple(times[tier][variant][0]) for tier in TIERS},
        head_s={tier: tuple(times[tier][variant][1]) for tier in TIERS},
        cut_bytes=tuple(_work_bytes(manifest, variant, cut) for cut in range(manifest.num_stages + 1)),
        accuracy={split: tuple(each.correct.mean(axis=1).tolist()) for split, each in judged.items()},
        correct={split: write_bits(each.correct) for split, each in judged.items()},
        exit_taken={split: "".join(map(str, exits.tolist())) for split, exits in taken.items()},
        leakage=cut_leakage(engine, model_dir, variant),
        size_bytes=info.size_bytes,
        batch_fixed_fraction=measure_fixed_fraction(engine, variant, LARGEST_BATCH),
    )


def _work_bytes(manifest: Manifest, variant: str, cut: int) -> int:
    """Bytes of a Work message at this cut, frames and header."""
    exit = len(manifest.exit_ends) - 1
    decision = Decision(model=manifest.model, variant=variant, cuts=(cut, manifest.num_stages), exit=exit)
    tensors = [np.zeros(spec.shape, dtype=spec.dtype) for spec in manifest.variants[variant].cuts[cut]]
    return num_bytes(to_frames(Work(request_id=1 << 30, decision=decision, stage=cut, budget_s=0.1), tensors))


def _result_bytes(manifest: Manifest) -> int:
    output = next(iter(manifest.variants.values())).outputs[-1]
    answer = np.zeros(output.shape, dtype=output.dtype)
    return num_bytes(to_frames(Result(request_id=1 << 30, exit=0, spans=(Span(queue_s=0.1),) * 2), [answer]))


def cut_leakage(engine: Engine, model_dir: Path, variant: str) -> tuple[float, ...]:
    """Distance correlation between raw inputs and what crosses each cut 0..S, on validation examples."""
    images = load_played(model_dir, "validation").images[:LEAKAGE_EXAMPLES]
    flat = images.reshape(len(images), -1).astype(np.float64)
    leakage = [1.0]
    for cut in range(1, engine.manifest.num_stages + 1):
        crossing = [
            np.concatenate([part.reshape(-1).astype(np.float64) for part in engine.run(variant, 0, cut, None, [image])]) for image in images
        ]
        leakage.append(distance_correlation(flat, np.stack(crossing)))
    return tuple(leakage)


def _link_profile(links: tuple[LinkView, ...], index: int) -> LinkProfile:
    if index >= len(links):
        return LinkProfile(rate_bytes_per_s=1e6, delay_s=0.0)
    return LinkProfile(rate_bytes_per_s=links[index].rate_bytes_per_s, delay_s=links[index].delay_s)
