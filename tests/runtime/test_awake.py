"""Keeping processors awake: who is, who is not, and that nothing is left spinning."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from runtime.awake import is_lent, kept_awake
from tests.drlctl.processes import until

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the lowest scheduling class")


def spinners() -> list[psutil.Process]:
    """Children of this process that keep a processor awake."""
    return [child for child in psutil.Process().children() if any(part.endswith("awake.py") for part in child.cmdline())]


@linux
def test_one_process_of_the_lowest_class_for_each_processor() -> None:
    """While the block runs; afterwards, also after an error, there is none."""

    def look() -> None:
        with kept_awake(True) as awake:
            processors = sorted(os.sched_getaffinity(0))
            until(lambda: len(spinners()) == len(processors))  # a process has no name yet while it begins
            found = spinners()
            assert awake
            assert sorted(processor for child in found for processor in settled(child)) == processors
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert spinners() == []


def settled(child: psutil.Process) -> list[int]:
    """The processors of a process, once it is in the lowest class."""
    while os.sched_getscheduler(child.pid) != os.SCHED_IDLE:
        assert child.is_running()
    return sorted(os.sched_getaffinity(child.pid))


def test_nothing_is_kept_awake_against_one_s_will() -> None:
    """False is no."""
    with kept_awake(False) as awake:
        assert not awake
        assert spinners() == []


@pytest.mark.parametrize(
    ("flags", "quotas", "expected"),
    [
        ("fpu hypervisor", [], True),
        ("fpu hypervisor", ["max 100000\n"], True),
        ("fpu hypervisor", ["-1\n"], True),
        ("fpu hypervisor", ["200000 100000\n"], False),
        ("fpu hypervisor", ["max 100000\n", "200000\n"], False),
        ("fpu", [], False),
    ],
)
def test_only_a_virtual_machine_without_a_quota_is_lent(tmp_path: Path, flags: str, quotas: list[str], expected: bool) -> None:
    """A quota would be spent on spinning, and a machine of one's own is lent to nobody."""
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    files = []
    for index, quota in enumerate(quotas):
        files.append(tmp_path / str(index))
        files[-1].write_text(quota)
    assert is_lent(tmp_path / "cpuinfo", (*files, tmp_path / "missing")) is expected
    assert not is_lent(tmp_path / "missing", ())
