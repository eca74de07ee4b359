"""Which settings of a training job go together.  What would not be done is refused, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.messages.transfer import TransferSpec

if TYPE_CHECKING:
    from runtime.messages.training import FitJob, PrivacyConfig


def check_combination(job: FitJob) -> None:
    """Raises ValueError saying what belongs to what."""
    if job.root == "edge" and job.architecture in {"hierarchical", "split"}:
        raise ValueError(f"{job.architecture!r} needs edges between the clients and the root; its root is the cloud")
    if job.architecture in {"local", "centralised", "split", "gossip"}:
        _check_without_updates(job)
    _check_what_the_root_must_see(job)
    _check_momentum(job)
    if job.privacy is not None:
        _check_private(job, job.privacy)
    if job.transfer is not None:
        _check_transfer(job, job.transfer)
    if job.secure_aggregation:
        _check_secure(job)


def _check_without_updates(job: FitJob) -> None:
    """What belongs to updates that clients send to an aggregator has no meaning where there are none, and is refused."""
    if job.compressor != "identity" or job.privacy is not None or job.tau.rule == "adaptive":
        raise ValueError(
            f"{job.architecture!r} has no compressor, no privacy accounting and no adaptive tau: no updates come to an aggregator; "
            f"got {job.compressor!r}, {job.privacy} and {job.tau.rule!r}"
        )
    if job.architecture == "split" and (job.cut < 1 or job.local.proximal or job.local.max_gradient_norm):
        raise ValueError(
            "`split` needs a cut >= 1, and takes plain steps: no half knows the whole gradient's norm; "
            f"got cut {job.cut}, proximal {job.local.proximal}, max_gradient_norm {job.local.max_gradient_norm}"
        )


def _check_what_the_root_must_see(job: FitJob) -> None:
    """Privacy and adaptive tau are about every client's update."""
    if job.architecture == "hierarchical" and (job.privacy is not None or job.tau.rule == "adaptive"):
        raise ValueError("`hierarchical` has no privacy accounting and no adaptive tau: the root sees edges and no client; use `federated`")


def _check_momentum(job: FitJob) -> None:
    """A compressor with a momentum of its own is the only place that has one: two in a row are none that anybody chose."""
    if job.compressor.split("+")[0] != MOMENTUM_COMPRESSOR:
        return
    if job.architecture == "hierarchical":
        raise ValueError(
            f"{job.compressor!r} keeps a momentum, and under `hierarchical` devices and edges would each apply it: "
            "use `federated`, or a compressor with error feedback such as `topk1+ef`"
        )
    if job.local.momentum:
        raise ValueError(
            f"{job.compressor!r} keeps a momentum, and local steps have another of {job.local.momentum}: set local.momentum to 0, "
            "or use a compressor with error feedback such as `topk1+ef`"
        )


def _check_private(job: FitJob, privacy: PrivacyConfig) -> None:
    """What is promised of the noisy mean of clipped updates holds for nothing else that is made of what clients send."""
    if privacy.sampling_fraction != job.sample_fraction:
        raise ValueError(
            f"privacy is promised for a sampling_fraction of {privacy.sampling_fraction}, clients are drawn with a sample_fraction of "
            f"{job.sample_fraction}: give both the same value"
        )
    if job.aggregator != "fedavg":
        raise ValueError(
            f"under privacy the root adds noise to the mean of clipped updates, and nothing else is done to them; got aggregator "
            f"{job.aggregator!r}: use `fedavg`, or leave privacy out"
        )
    if job.tau.rule == "adaptive":
        raise ValueError(
            "adaptive tau is found from the clients' gradients, which are neither clipped nor given noise, and everybody sees the tau: "
            "take a fixed or decided tau, or leave privacy out"
        )


NO_TRANSFER: dict[str, str] = {
    "centralised": "its clients have no network to lay a base into",
    "local": "nothing is handed out to its clients",
    "gossip": "it has no root that hands weights out, so nobody could give a base to a peer that comes later",
    "split": "its devices hold the lower layers in order to train them",
}
"""Why transfer has no meaning there."""


def _check_transfer(job: FitJob, transfer: TransferSpec) -> None:
    if job.architecture in NO_TRANSFER:
        raise ValueError(
            f"{job.architecture!r} has no knowledge transfer: {NO_TRANSFER[job.architecture]}; use `federated` or `hierarchical`, "
            "with this job's result as the checkpoint if you like"
        )
    if not transfer.checkpoint and transfer.data is None and not job.data.root_fraction:
        raise ValueError("a base needs a checkpoint, data to train it on, or data.root_fraction > 0: examples of the root's own")


MOMENTUM_COMPRESSOR = "dgc"
"""Alone, or with what it quantises its values with behind a `+`."""
SUMMED = ("fedavg", "fedavgm", "fedadam")
"""Aggregators that need no more of the updates than their weighted sum."""


def _check_secure(job: FitJob) -> None:
    """What has to see a single update cannot be had with secure aggregation."""
    if job.architecture != "federated":
        raise ValueError(f"secure aggregation masks what clients send to a federated root; {job.architecture!r} has none")
    if job.aggregator not in SUMMED:
        raise ValueError(f"aggregator {job.aggregator!r} compares single updates, which secure aggregation hides; use {', '.join(SUMMED)}")
    if job.compressor != "identity" or job.privacy is not None or job.tau.rule == "adaptive":
        raise ValueError(
            "under secure aggregation the root cannot read compressed updates, clip single ones, or compare gradients: it takes the "
            f"identity compressor, no privacy accounting and no adaptive tau; got {job.compressor!r}, {job.privacy} and {job.tau.rule!r}"
        )
    drawn = round(job.sample_fraction * job.data.num_clients)
    if not MIN_HIDDEN <= drawn <= MAX_HIDDEN:
        raise ValueError(f"a sum hides its parts among {MIN_HIDDEN}..{MAX_HIDDEN} clients of a round, got {drawn}")


MIN_HIDDEN = 3
"""Of two, each would know the other's update from the sum."""
MAX_HIDDEN = 256
"""One client's shares for all others are one message's header: 64 kB, 0.2 kB for each."""
