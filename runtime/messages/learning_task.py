"""What a training job trains, and on which examples."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from runtime.messages.names import INF


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained."""

    factory: str = "runtime.models.networks.compact:compact_cnn"
    """`package.module:factory`, a callable that gives a torch `nn.Module`."""
    arguments: dict[str, Any] = {}


class DataSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which examples there are, and who has which of them."""

    source: str = "digits"
    """As `drlctl models build --data` takes it, or `sensors:PATH` for the phone-sensor archive."""
    partition: Literal["iid", "dirichlet", "subject"] = "dirichlet"
    alpha: float = 0.5
    """Concentration of the class shares; small: clients differ much."""
    num_clients: int = 8
    seed: int = 0
    classes: tuple[str, ...] = ()
    """The task: only examples of these classes, which are numbered anew in this order; empty: all."""
    subjects: tuple[int, ...] = ()
    """Of the phone-sensor archive: only these people, by their numbers; empty: all."""
    root_fraction: float = 0.0
    """Of the examples to train on, drawn at random before the rest is divided: the root's own, and no client's."""
    examples_per_client: int = 0
    """So many are left to each client, drawn at random from its own; 0: all."""

    def __post_init__(self) -> None:
        if self.num_clients < 1 or not 0.0 < self.alpha < INF:
            raise ValueError(f"data are divided among >= 1 clients with alpha > 0, got {self.num_clients} and {self.alpha}")
        if not 0.0 <= self.root_fraction < 1.0 or self.examples_per_client < 0:
            raise ValueError(
                f"root_fraction is in [0, 1) and examples_per_client >= 0, got {self.root_fraction} and {self.examples_per_client}"
            )
        if len(set(self.classes)) != len(self.classes) or len(set(self.subjects)) != len(self.subjects):
            raise ValueError(f"classes and subjects are each named once, got {self.classes} and {self.subjects}")
