"""Records files survive crashes and name what is wrong with them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from experiments.records import Record, RecordWriter, read_records
from runtime.errors import InvalidInput
from runtime.messages import Breakdown
from tests.experiments.worlds import SPLIT


def make_record(**changes: object) -> Record:
    """A plausible record; any field can be changed."""
    record = Record(
        run="r",
        scenario="toy",
        system="live",
        policy="edge-only",
        seed=1,
        request_id=0,
        arrival_s=0.5,
        status="ok",
        decision=SPLIT,
        decision_label=SPLIT.label(),
        latency_s=0.1,
        deadline_s=0.3,
        breakdown=Breakdown(compute_s=(0.1, 0.0, 0.0)),
        correct=True,
        cost=0.4,
        cost_terms={"latency": 0.4},
    )
    return msgspec.structs.replace(record, **changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field comes back, whatever its type, and appending adds."""
    path = tmp_path / "deep" / "records.jsonl"
    records = [make_record(request_id=index, message="snow ☃\n\u2028", predicted_latency_s=1e-9) for index in range(5)]
    with RecordWriter(path) as writer:
        writer.write(records[:3])
    with RecordWriter(path) as writer:
        writer.write(records[3:])
    assert read_records(path) == records
    assert path.read_bytes().count(b"\n") == 5


@pytest.mark.parametrize("torn", [1, 20, 300])
def test_a_torn_last_line_is_skipped_with_a_warning(tmp_path: Path, torn: int, caplog: pytest.LogCaptureFixture) -> None:
    """A crash costs one record, and one is told."""
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write([make_record(), make_record(request_id=1)])
    path.write_bytes(path.read_bytes()[:-torn])
    with caplog.at_level(logging.WARNING):
        records = read_records(path)
    assert [record.request_id for record in records] == ([0, 1] if torn == 1 else [0])
    assert ("records.jsonl:2: torn last line" in caplog.text) == (torn > 1)


@pytest.mark.parametrize("torn", [1, 20, 300])
def test_appending_after_a_crash_loses_nothing_else(tmp_path: Path, torn: int) -> None:
    """A whole line without its newline is kept, a torn one removed; what follows starts on its own line."""
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write([make_record(), make_record(request_id=1)])
    path.write_bytes(path.read_bytes()[:-torn])
    with RecordWriter(path) as writer:
        writer.write([make_record(request_id=2)])
    assert [record.request_id for record in read_records(path)] == ([0, 1, 2] if torn == 1 else [0, 2])


BAD_LINES = (b"not json\n", b'{"run": "r"}\n', b'"\xff\xfe"\n', b"\n", b"[1, 2]\n", b'{"run": "\xff"}\n')


@pytest.mark.parametrize("bad", BAD_LINES)
def test_any_other_bad_line_is_named(tmp_path: Path, bad: bytes) -> None:
    """A line that is corrupt in the middle of a file is not guessed at."""
    path = tmp_path / "records.jsonl"
    good = msgspec.json.encode(make_record()) + b"\n"
    path.write_bytes(good + bad + good)
    with pytest.raises(InvalidInput, match=r"records\.jsonl:2: not a record"):
        read_records(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error says which."""
    with pytest.raises(InvalidInput, match=r"nowhere\.jsonl"):
        read_records(tmp_path / "nowhere.jsonl")


def test_a_killed_writer_leaves_a_readable_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: all lines but perhaps the last are whole."""
    path = tmp_path / "records.jsonl"
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.experiments.test_records import make_record\n"
        "from experiments.records import RecordWriter\n"
        "writer = RecordWriter(Path(sys.argv[1]))\n"
        "number = 0\n"
        "while True:\n"
        "    writer.write([make_record(request_id=number)]); number += 1\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[2])
    try:
        deadline_s = time.monotonic() + 30
        while (not path.exists() or path.stat().st_size < 20_000) and time.monotonic() < deadline_s:
            assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    records = read_records(path)
    assert [record.request_id for record in records] == list(range(len(records)))
    assert len(records) > 5


def test_missed_is_no_answer_by_the_deadline() -> None:
    """A late answer is a miss, though it did not fail."""
    assert not make_record().missed
    assert make_record(status="overload").missed
    assert make_record(status="overload").failed
    assert make_record(latency_s=0.31).missed
    assert not make_record(latency_s=0.31).failed
