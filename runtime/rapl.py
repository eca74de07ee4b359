"""Energy of this host, measured: the RAPL counters of its processor packages, as Linux shows them.

    /sys/class/powercap/intel-rapl:0/name                  package-0
                                    /energy_uj             microjoules since some time, wraps around
                                    /max_energy_range_uj   where it wraps

AMD processors appear under the same names.  A counter is of a whole package: every process, and idling too.  Virtual
machines and other processors have none, and since Linux 5.10 only root may read it (CVE-2020-8694).
Source: Linux kernel documentation, "Power Capping Framework", and Documentation/ABI/testing/sysfs-class-powercap.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

POWERCAP = Path("/sys/class/powercap")


class Zone(msgspec.Struct, frozen=True, kw_only=True):
    """One processor package."""

    directory: Path
    name: str
    range_joules: float
    """The counter wraps around after so much."""

    def read_joules(self) -> float:
        """The counter.  Raises OSError where it may not be read, ValueError where it is not a number."""
        return _read_micro(self.directory / "energy_uj")


class HostEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What the host's processor packages drew during an interval."""

    joules: float | None
    """None: this host cannot tell."""
    duration_s: float
    note: str
    """What was measured, or why nothing was."""


class RaplMeter:
    """Counts joules from `start` on.  A host without counters is no error: `why_not` says so."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self.zones: tuple[Zone, ...] = ()
        self.why_not = ""
        self._total_joules, self._started_s = 0.0, 0.0
        try:
            self.zones = find_zones(root)
            self._last_joules = [zone.read_joules() for zone in self.zones]
        except PermissionError as exc:
            self.why_not = f"{exc.filename} is readable by root only"
        except (OSError, ValueError) as exc:
            self.why_not = f"the counters in {root} cannot be read: {exc}"
        if not self.zones and not self.why_not:
            self.why_not = f"no RAPL packages in {root}, as on most virtual machines"

    def start(self) -> None:
        """Count from now."""
        self.update()
        self._total_joules, self._started_s = 0.0, time.perf_counter()

    def update(self) -> None:
        """Add what was drawn since the last update.  Needed at least once per wrap: 262 kJ, 44 minutes at 100 W, are usual."""
        if self.why_not:
            return
        try:
            now_joules = [zone.read_joules() for zone in self.zones]
        except (OSError, ValueError) as exc:
            self.why_not = f"a counter became unreadable: {exc}"
            return
        for zone, before, now in zip(self.zones, self._last_joules, now_joules, strict=True):
            self._total_joules += now - before if now >= before else now - before + zone.range_joules
        self._last_joules = now_joules

    def read(self) -> HostEnergy:
        """What was drawn since `start`."""
        self.update()
        duration_s = time.perf_counter() - self._started_s
        if self.why_not:
            return HostEnergy(joules=None, duration_s=duration_s, note=f"not measured: {self.why_not}")
        names = ", ".join(zone.name for zone in self.zones)
        note = f"measured by RAPL ({names}): the whole host, all its processes, idling included"
        return HostEnergy(joules=self._total_joules, duration_s=duration_s, note=note)


def find_zones(root: Path = POWERCAP) -> tuple[Zone, ...]:
    """The packages, by name; parts of packages (cores, memory) and the whole platform are left out, to count nothing twice.

    Raises OSError or ValueError where a zone is there and cannot be read.
    """
    zones = []
    for directory in sorted(root.glob("intel-rapl:*")):
        name_file = directory / "name"
        if directory.name.count(":") == 1 and name_file.is_file():
            name = name_file.read_text(encoding="ascii").strip()
            if name.startswith("package"):
                zones.append(Zone(directory=directory, name=name, range_joules=_read_micro(directory / "max_energy_range_uj")))
    return tuple(zones)


@contextmanager
def metered(root: Path = POWERCAP) -> Iterator[RaplMeter]:
    """A meter that counts from the beginning of the block; `read` it at the end or later."""
    meter = RaplMeter(root)
    meter.start()
    yield meter
    meter.update()


def energy_difference(modelled_joules: float, measured: HostEnergy) -> str:
    """One sentence that sets a meter's figure beside a model's."""
    if measured.joules is None:
        return f"energy of the host: {measured.note}"
    return (
        f"energy of the host: {measured.joules:.2f} J in {measured.duration_s:.1f} s, {measured.note};"
        f" {measured.joules - modelled_joules:+.2f} J against the model of the device alone"
    )


def _read_micro(path: Path) -> float:
    """A file of one number in millionths."""
    return int(path.read_text(encoding="ascii")) / 1e6
