"""Variant names: what they mean, and that they mean something that is there."""

from __future__ import annotations

import pytest

from runtime.errors import InvalidConfig
from runtime.models.compression import FORMS
from runtime.models.variant_names import FORM_NAMES, GRAPH_NAMES, VariantName, parse_variant
from runtime.models.variants import VARIANTS


def test_names_are_those_of_the_registries() -> None:
    """The lists that need no torch name exactly what there is."""
    assert tuple(FORMS) == FORM_NAMES
    assert tuple(VARIANTS) == GRAPH_NAMES


def test_every_pair_has_one_name() -> None:
    """Each form with each graph form is written in one way, identities left out, and read back."""
    names = {
        "+".join(part for part in (form, graph) if part not in {"dense", "fp32"}) or "fp32": VariantName(form, graph)
        for form in FORM_NAMES
        for graph in GRAPH_NAMES
    }
    assert {name: parse_variant(name) for name in names} == names


@pytest.mark.parametrize(
    "name", ["", "+", "dense", "fp16", "pruned+", "+int8", "int8+pruned", "pruned+fp32", "dense+int8", "int8+", "pruned+slim"]
)
def test_other_names_are_refused(name: str) -> None:
    """A second way to write a variant would be a second variant."""
    with pytest.raises(InvalidConfig, match=r"pruned\+int8"):
        parse_variant(name)
