"""Cuts where values are infinite are none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime.errors import InvalidModel
from runtime.models.cutting import find_cuts
from runtime.models.finite import finite_cuts
from tests.runtime.models.graphs import SHAPE, GraphWriter

PICTURE = np.ones(SHAPE, np.float32)


def masked() -> onnx.ModelProto:
    """conv - relu - add a mask of minus infinity - softmax - conv - head"""
    writer = GraphWriter()
    mask = np.zeros(SHAPE, np.float32)
    mask[..., 3:] = -np.inf
    writer.weights.append(numpy_helper.from_array(mask, "mask"))
    soft = writer.add("Softmax", writer.add("Add", writer.add("Relu", writer.conv("x")), "mask"), axis=3)
    return writer.model([writer.head(writer.conv(soft))])


def test_no_cut_between_a_mask_and_its_softmax() -> None:
    """Of all places only the one right behind the mask is left out."""
    model = masked()
    found = find_cuts(model.graph)
    kept = finite_cuts(model, found, PICTURE)
    assert [cut.position for cut in found if cut not in kept] == [3]


def test_where_an_exit_leaves_values_must_be_finite() -> None:
    """Places that must be cut cannot be left out: the network is refused."""
    model = masked()
    with pytest.raises(InvalidModel, match="NaN or infinity"):
        finite_cuts(model, find_cuts(model.graph), np.full(SHAPE, np.nan, np.float32))
