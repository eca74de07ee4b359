"""The video application through real nodes, on drawn frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from drlctl.video import VideoReport, play_video
from envs.scenario import Scenario
from experiments.video.knobs import GOLDEN, Knobs, Look, Setting
from experiments.video.policy import Reprofiling
from tests.drlctl.conftest import RunHere
from tests.experiments.video.highway import HEIGHT, WIDTH, draw_highway

KNOBS = Knobs(scales=(1,), intervals=(1, 2))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VideoReport]:
    """One application taught and played on 24 drawn frames, on nodes and links as they are."""
    folder, heard = tmp_path_factory.mktemp("frames"), list[float]()
    for number, frame in enumerate(draw_highway(24)[0]):
        Image.fromarray(frame).save(folder / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRLCTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        policy = Reprofiling(target=0.8, cost="bytes", window=6, calibration=2)
        yield play_video(folder, Scenario(name="plain"), policy, knobs=KNOBS, progress=lambda text, share: heard.append(share))
    assert heard == sorted(heard)


@pytest.mark.slow
def test_every_player_reports_every_frame_through_the_nodes(report: VideoReport) -> None:
    """Golden agrees with itself, looks are counted, requests are answered, the oracle holds and costs no more than golden."""
    golden, fixed, reprofiled, oracle = report.rows
    assert (report.num_teaching, report.num_played, report.grid) == (12, 12, (HEIGHT // 16, WIDTH // 16))
    assert (golden.accuracy, golden.looks, golden.settings) == (1.0, 12, (GOLDEN.label(),))
    assert sum(row.failed for row in report.rows) == 0
    assert oracle.holds
    assert oracle.cost.uplink_bytes <= golden.cost.uplink_bytes
    assert fixed.looks <= golden.looks
    assert reprofiled.profiling_looks >= 4
    assert len(reprofiled.settings) == len(oracle.settings) == 2


@pytest.mark.slow
def test_looks_cost_what_they_send(report: VideoReport) -> None:
    """A whole frame is 3 bytes a pixel and a header, the busy region less; each second frame half of that."""
    num_bytes = {each.setting: each.cost.uplink_bytes for each in report.learnt}
    assert set(num_bytes) == set(KNOBS.settings)
    assert num_bytes[GOLDEN] == pytest.approx(HEIGHT * WIDTH * 3, rel=0.05)
    busy = report.busy.rows * report.busy.columns * 16 * 16 * 3
    assert num_bytes[Setting(look=Look(region="busy"))] == pytest.approx(busy, rel=0.05)
    assert busy < HEIGHT * WIDTH * 3
    assert num_bytes[Setting(interval=2)] == pytest.approx(num_bytes[GOLDEN] / 2, rel=0.05)


@pytest.mark.slow
def test_the_network_sees_the_car(report: VideoReport) -> None:
    """Taught by pseudo-labels of other frames it agrees with those of these; and the report says what it is, and of how little."""
    assert report.pseudo_label_f1 > 0.7
    text = "\n".join(report.notes())
    assert "FEW" in text
    assert "PSEUDO-LABELS" in text
    assert msgspec.json.decode(msgspec.json.encode(report), type=VideoReport) == report


def test_a_folder_without_frames_is_one_clear_error(run_here: RunHere, tmp_path: Path) -> None:
    """Before anything is taught or started."""
    done = run_here("video", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (65, "")
    assert "0 frames" in done.stderr
    done = run_here("video", cwd=tmp_path, env={"DRLCTL_DATA": ""})
    assert done.returncode == 65
    assert "give a folder" in done.stderr
    still = tmp_path / "still"
    still.mkdir()
    for number in range(16):
        Image.new("RGB", (64, 48), "grey").save(still / f"{number}.png")
    done = run_here("video", str(still), cwd=tmp_path)
    assert done.returncode == 65
    assert "nothing moves" in done.stderr
    done = run_here("video", str(tmp_path), "--window", "3", "--calibration", "3", cwd=tmp_path)
    assert done.returncode == 65
    assert "calibration < window" in done.stderr
