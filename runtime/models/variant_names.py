"""Names of variants: a form of the network, then a form of its graph, joined by "+": `fp32`, `pruned`, `pruned+int8`.

Nothing here imports torch or onnx: specifications are checked with it before anything is built.
"""

from __future__ import annotations

import msgspec

from runtime.errors import InvalidConfig

FORM_NAMES = ("dense", "lowres", "pruned", "slim")
"""The keys of `runtime.models.compression.FORMS`: what is trained.  The first is the identity and is not written."""
GRAPH_NAMES = ("fp32", "half", "int8")
"""The keys of `runtime.models.variants.VARIANTS`: what is made of the exported graph.  The first is the identity."""
SHARED_FORMS = ("pruned", "slim")
"""Forms that can be told how many FLOPs to keep."""


class VariantName(msgspec.Struct, frozen=True):
    """What a variant's name means."""

    form: str
    graph: str


def parse_variant(name: str) -> VariantName:
    """ "pruned+int8" -> what to train and what to make of its graph; "fp32" alone is the network as it is.

    Raises InvalidConfig for anything but a form, a graph form, or one of each in this order.
    """
    first, _, second = name.partition("+")
    if first in GRAPH_NAMES and not second and name == first:
        return VariantName(FORM_NAMES[0], first)
    if first in FORM_NAMES[1:] and name == first:
        return VariantName(first, GRAPH_NAMES[0])
    if first in FORM_NAMES[1:] and second in GRAPH_NAMES[1:]:
        return VariantName(first, second)
    raise InvalidConfig(
        f"no variant {name!r}: give one of {', '.join(GRAPH_NAMES)}, {', '.join(FORM_NAMES[1:])}, "
        f"or a pair of both like {FORM_NAMES[2]}+{GRAPH_NAMES[2]}"
    )
