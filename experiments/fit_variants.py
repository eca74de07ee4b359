"""Every architecture and technique of training as jobs that differ from one job in that alone."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.messages import MIN_HIDDEN, DataSpec, DistilSpec, FitJob, LocalSpec, PrivacyConfig, TransferSpec

WITHOUT_UPDATES: dict[str, Any] = {"compressor": "identity", "privacy": None, "transfer": None, "secure_aggregation": False}
"""Architectures in which no updates come to an aggregator refuse what is done to updates, and have nobody to hand a base out."""
ROOT_FRACTION = 0.2
"""Of the examples, in the variants that train a base on the root's own; the clients have so many less."""
SECURE: dict[str, Any] = {
    "secure_aggregation": True, "compressor": "identity", "privacy": None, "aggregator": "fedavg", "sample_fraction": 1.0
}  # fmt: skip
OPEN: dict[str, Any] = {"secure_aggregation": False}
"""What has to see single updates."""

EDGES_BETWEEN = ("hierarchical", "split")
"""Not where the edge is the root."""


def every_variant(base: FitJob) -> tuple[FitJob, ...]:
    """The base job as `federated` first; gradient steps of a client are the same in all, so that rounds of tau 1 are many."""
    fixed = msgspec.structs.replace(_with_tau(base, base.tau.tau), architecture="federated", edge_rounds=1)
    variants: dict[str, dict[str, Any]] = {
        "federated": {},
        "federated, tau 1": {"tau": _tau(base, 1), "rounds": base.rounds * base.tau.tau},
        "federated, adaptive tau": {"tau": msgspec.structs.replace(base.tau, rule="adaptive", tau=1), "privacy": None, **OPEN},
        "hierarchical": {
            "architecture": "hierarchical",
            "privacy": None,
            **OPEN,
            "edge_rounds": 2,
            "rounds": max(1, base.rounds // 2),
            "compressor": "identity" if base.compressor.startswith("dgc") else base.compressor,
        },
        "centralised": {"architecture": "centralised", **WITHOUT_UPDATES},
        "split": {"architecture": "split", "cut": base.cut or 1, "local": _plain(base.local), **WITHOUT_UPDATES},
        "local": {"architecture": "local", **WITHOUT_UPDATES},
        "gossip": {"architecture": "gossip", **WITHOUT_UPDATES},
        "gossip on a ring": {"architecture": "gossip", "peers": "ring", **WITHOUT_UPDATES},
        **{f"compressor {name}": {"compressor": name, **OPEN} for name in ("qsgd8", "qsgd4", "topk1+ef", "topk3+sign+ef", "sign+ef")},
        "compressor dgc": {"compressor": "dgc", **OPEN, "local": msgspec.structs.replace(base.local, momentum=0.0)},
        **{
            f"aggregator {name}": {"aggregator": name, "privacy": None, **OPEN}
            for name in ("fedavgm", "fedadam", "median", "trimmed_mean", "krum")
        },
        "FedProx": {"local": msgspec.structs.replace(base.local, proximal=0.1)},
        "half of the clients": {"sample_fraction": 0.5, "privacy": None, **OPEN},
        "transfer 2 layers frozen": {"transfer": TransferSpec(frozen=2), "data": _with_root_part(base)},
        "transfer distilled": {"transfer": TransferSpec(frozen=2, distil=DistilSpec()), "data": _with_root_part(base)},
        **({"secure aggregation": SECURE} if base.data.num_clients >= MIN_HIDDEN else {}),
        "private": {
            "privacy": PrivacyConfig(max_norm=1.0, noise_multiplier=0.3, sampling_fraction=base.sample_fraction),
            "aggregator": "fedavg",
            **OPEN,
        },
    }
    return tuple(
        msgspec.structs.replace(fixed, name=name.replace(" ", "-").replace(",", ""), **changes)
        for name, changes in variants.items()
        if base.root == "cloud" or name not in EDGES_BETWEEN
    )


def _plain(local: LocalSpec) -> LocalSpec:
    """Without what only a whole network's gradient tells."""
    return msgspec.structs.replace(local, proximal=0.0, max_gradient_norm=0.0)


def _with_root_part(base: FitJob) -> DataSpec:
    return msgspec.structs.replace(base.data, root_fraction=base.data.root_fraction or ROOT_FRACTION)


def _tau(base: FitJob, tau: int) -> Any:
    return msgspec.structs.replace(base.tau, rule="fixed", tau=tau)


def _with_tau(base: FitJob, tau: int) -> FitJob:
    return msgspec.structs.replace(base, tau=_tau(base, tau))
