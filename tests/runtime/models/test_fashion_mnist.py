"""The promises of compression on a real data set.  Half an hour, therefore only where it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif("DRLCTL_DATA" not in os.environ, reason="DRLCTL_DATA does not say where images/fashion_mnist is")
@pytest.mark.skipif("DRLCTL_LONG_TESTS" not in os.environ, reason="takes half an hour; DRLCTL_LONG_TESTS=1 runs it")
def test_forms_and_variants_keep_their_accuracy(tmp_path: Path) -> None:
    """On Fashion-MNIST: 91 % in fp32; int8 and half within 0.5 points, half the FLOPs within 1.5, a quarter within 2.5."""
    from benchmarks.compression import run

    found = run(str(Path(os.environ["DRLCTL_DATA"]) / "images" / "fashion_mnist"), tmp_path)
    full = found["dense"]["fp32"][-1]
    assert full >= 0.91
    assert found["dense"]["int8"][-1] >= full - 0.005
    assert found["dense"]["half"][-1] >= full - 0.005
    assert found["pruned"]["fp32"][-1] >= full - 0.015
    assert found["slim"]["fp32"][-1] >= full - 0.025
    assert found["dense"]["fp32"] == sorted(found["dense"]["fp32"])
