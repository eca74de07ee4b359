"""How long loading takes, measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.load_profiler import measure_loading, split_load_s
from runtime.models.manifest import load_manifest
from runtime.models.pieces import Piece
from runtime.protocol.residency import Residency


def test_what_is_paid_once_is_told_from_what_each_stage_takes() -> None:
    """By hand: 3 s for a session, stages of 1, 2 and 0 s; never below nothing, whatever the noise."""
    fixed_s, stage_s = split_load_s([4.0, 5.0, 3.0], 6.0)
    assert (fixed_s, stage_s) == (pytest.approx(3.0), pytest.approx((1.0, 2.0, 0.0)))
    assert split_load_s([4.0, 5.0, 3.0], 20.0) == (0.0, (4.0, 5.0, 3.0))
    assert split_load_s([4.0, 5.0, 1.0], 1.0) == (1.0, (3.0, 4.0, 0.0))
    assert split_load_s([4.0], 4.0) == (0.0, (4.0,))


@pytest.mark.slow
def test_a_real_model_s_files_and_seconds(digits_model: Path) -> None:
    """Bytes are the manifest's; everything takes some time, and none takes seconds."""
    manifest, loading = load_manifest(digits_model), measure_loading(digits_model)
    assert loading.variants.keys() == manifest.variants.keys()
    for variant, info in loading.variants.items():
        whole = Piece(model=manifest.model, variant=variant, start=0, stop=manifest.num_stages, exit=len(manifest.exit_ends) - 1)
        segment = f"0-{whole.stop}x{whole.exit}"
        assert info.graph_bytes[segment] + info.weights_bytes == Residency([manifest], None).needed_bytes([whole])
        assert len(info.stage_s) == manifest.num_stages
        assert min(info.session_s, *info.stage_s, info.weights_s) >= 0
        assert 1e-4 < info.load_s(0, manifest.num_stages) < 5
    assert 0 < loading.keep_s < 5
    assert 0 < loading.read_s_per_byte < 1e-6
