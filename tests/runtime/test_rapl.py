"""The RAPL meter, on directories laid out as sysfs lays them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.rapl import POWERCAP, HostEnergy, RaplMeter, energy_difference, find_zones, metered

RANGE_UJ = 262_143_328_850


def write_zone(root: Path, directory: str, name: str, energy_uj: int) -> Path:
    zone = root / directory
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return zone / "energy_uj"


@pytest.fixture
def two_packages(tmp_path: Path) -> tuple[Path, Path]:
    """Counters of two packages; beside them what must not be counted again."""
    first = write_zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = write_zone(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 4_000_000)
    write_zone(tmp_path, "intel-rapl:2", "psys", 99_000_000)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return first, second


def test_packages_are_counted_once(tmp_path: Path, two_packages: tuple[Path, Path]) -> None:
    """Both packages add up; cores, platform and the second interface to the same counter do not."""
    with metered(tmp_path) as meter:
        two_packages[0].write_text("6500000\n")
        two_packages[1].write_text("7250000\n")
    reading = meter.read()
    assert reading.joules == pytest.approx(1.5 + 0.25)
    assert "package-0, package-1" in reading.note
    assert [zone.name for zone in find_zones(tmp_path)] == ["package-0", "package-1"]


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    """2 J before the end of the range and 3 J after its beginning are 5 J; updates between make any number of wraps."""
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 2_000_000)
    meter = RaplMeter(tmp_path)
    meter.start()
    counter.write_text("3000000\n")
    assert meter.read().joules == pytest.approx(5.0)
    counter.write_text("2000000\n")
    assert meter.read().joules == pytest.approx(5.0 + RANGE_UJ / 1e6 - 1.0)


def test_only_what_comes_after_start_counts(tmp_path: Path) -> None:
    """Energy between making a meter and starting it is not the interval's."""
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = RaplMeter(tmp_path)
    counter.write_text("8000000\n")
    meter.start()
    counter.write_text("9000000\n")
    assert meter.read().joules == pytest.approx(1.0)


def test_a_host_without_counters_says_so(tmp_path: Path) -> None:
    """No directory and an empty one: no figure, and why."""
    for root in (tmp_path, tmp_path / "absent"):
        with metered(root) as meter:
            assert meter.zones == ()
        reading = meter.read()
        assert reading.joules is None
        assert "no RAPL packages" in reading.note


def test_this_host_gives_a_figure_or_a_reason() -> None:
    """On the machine that the tests run on, whatever it is."""
    reading = RaplMeter(POWERCAP).read()
    assert (reading.joules is None) == reading.note.startswith("not measured")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_without_permission_it_says_who_may(tmp_path: Path) -> None:
    """The kernel's default since 5.10."""
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0).chmod(0o000)
    assert "root only" in RaplMeter(tmp_path).read().note


def test_unreadable_counters_are_no_crash(tmp_path: Path) -> None:
    """Not a number, or gone while counting: no figure, and why."""
    counter = write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = RaplMeter(tmp_path)
    counter.unlink()
    assert "became unreadable" in meter.read().note
    counter.write_text("nonsense\n")
    assert RaplMeter(tmp_path).read().joules is None


def test_modelled_and_measured_stand_side_by_side() -> None:
    """The difference where there is one, the reason where not."""
    measured = HostEnergy(joules=5.0, duration_s=2.0, note="measured by RAPL (package-0)")
    assert "+3.50 J against the model" in energy_difference(1.5, measured)
    unmeasured = HostEnergy(joules=None, duration_s=2.0, note="not measured: no")
    assert energy_difference(1.5, unmeasured) == "energy of the host: not measured: no"
