"""Recordings are read within limits and cut as said."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidDataset
from runtime.training.data import archive
from runtime.training.data.partition import by_subject
from runtime.training.data.sensors import COLUMNS, WindowSpec, cut_windows, load_sensors, parse_recording

LINE = "9.80665,0,-9.80665,1,2,3,1657533977813,"


def recording(*labels: str) -> bytes:
    """A file with one sample for each label."""
    return "\n".join([COLUMNS, *(LINE + label for label in labels)]).encode()


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    """A tar.gz of these."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_windows_by_hand() -> None:
    """Five samples in windows of three, two apart: the majority names each, the units are physical."""
    samples, labels = parse_recording(recording("SEATED", "SEATED", "WALKING", "WALKING", "WALKING"), "here")
    windows, majority = cut_windows(samples, labels, WindowSpec(length=3, stride=2))
    assert windows.shape == (2, 1, 6, 3)
    np.testing.assert_allclose(windows[0, 0, :, 0], [1, 0, -1, 1, 2, 3], rtol=1e-6)
    assert majority.tolist() == [0, 4]


def test_persons_and_recordings_are_told_apart(tmp_path: Path) -> None:
    """In order, other files left alone, too short ones without windows."""
    files = {
        "s02/s02_01_sp.csv": recording(*["TURNING"] * 4),
        "s01/s01_02_sp.csv": recording(*["SEATED"] * 2),
        "s01/s01_01_sw.csv": b"a watch",
        "../s03/s03_01_sp.csv": b"elsewhere",
        "s04/s04_01_sp.csv": recording("SEATED"),
    }
    sensors = load_sensors(write_archive(tmp_path / "a.tar.gz", files), WindowSpec(length=2, stride=2))
    assert sensors.subjects.tolist() == [1, 2, 2]
    assert sensors.recordings.tolist() == [2, 1, 1]
    assert sensors.examples.labels.tolist() == [0, 3, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz"]


@pytest.mark.parametrize(
    "data", [b"", b"x", recording(), recording("RUNNING"), COLUMNS.encode() + b"\n1,2,SEATED", recording("SEATED").replace(b"9.8", b"nan#")]
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """Wrong header, no samples, unknown activity, missing or bad numbers."""
    with pytest.raises(InvalidDataset):
        load_sensors(write_archive(tmp_path / "a.tar.gz", {"s01/s01_01_sp.csv": data}))


def test_no_archive_is_refused(tmp_path: Path) -> None:
    """Missing, not gzip, cut off, and without recordings."""
    good = write_archive(tmp_path / "a.tar.gz", {"s01/s01_01_sp.csv": recording(*["SEATED"] * 200)}).read_bytes()
    for data in (b"plain", good[: len(good) // 2], good[:20]):
        (tmp_path / "b.tar.gz").write_bytes(data)
        with pytest.raises(InvalidDataset):
            load_sensors(tmp_path / "b.tar.gz")
    with pytest.raises(InvalidDataset):
        load_sensors(tmp_path / "none.tar.gz")
    with pytest.raises(InvalidDataset, match="no recording"):
        load_sensors(write_archive(tmp_path / "c.tar.gz", {"other": b""}))


def test_a_bomb_is_refused_unexploded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits hold for a file, and for all that is unpacked, skipped files too."""
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 100_000)
    with pytest.raises(InvalidDataset, match="claims 2000 bytes"):
        load_sensors(write_archive(tmp_path / "a.tar.gz", {"s01/s01_01_sp.csv": bytes(2000)}))
    with pytest.raises(InvalidDataset, match="unpacks to more than"):
        load_sensors(write_archive(tmp_path / "b.tar.gz", {"other": bytes(200_000)}))


@pytest.mark.slow
@pytest.mark.skipif("DRLCTL_DATA" not in os.environ, reason="DRLCTL_DATA does not say where sensors/sp_sw_har is")
def test_the_phone_sensor_set_has_23_people() -> None:
    """Every one of them did all five activities, and gravity is 1 on average."""
    sensors = load_sensors(Path(os.environ["DRLCTL_DATA"]) / "sensors" / "sp_sw_har" / "smartphone_exec01-06.tar.gz")
    partition = by_subject(sensors.examples.labels, sensors.subjects)
    assert partition.histograms.shape == (23, 5)
    assert (partition.histograms > 0).all()
    gravity = np.linalg.norm(sensors.examples.images[:, 0, :3], axis=1).mean()
    assert gravity == pytest.approx(1.0, abs=0.1)
