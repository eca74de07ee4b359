"""What people and scripts see, and the codes that commands end with."""

from __future__ import annotations

import json
import math
import signal

import pytest

from drlctl.exit_codes import EXIT_CODES, Terminated, raise_on_sigterm, report
from drlctl.extras import EXTRAS, require
from drlctl.http_status import parse_host_port
from drlctl.output import ProgressLine, note, print_json, print_table
from runtime.errors import InvalidBundle, InvalidConfig, MissingExtra, PeerLost


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One value on stdout that every parser reads: numbers that are not finite become null."""
    print_json({"a": (1, 2.5), "b": math.nan, "c": math.inf})
    assert json.loads(capsys.readouterr().out) == {"a": [1, 2.5], "b": None, "c": None}


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """First column left, the others right, free text behind, no trailing blanks."""
    print_table(("name", "ms"), [("a", "1.5"), ("longer", "22.5")], ["first", ""])
    assert capsys.readouterr().out == "name      ms\na        1.5  first\nlonger  22.5\n"


def test_progress_off_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One timestamped line on stderr when the text changes, none while it does not, no control characters."""
    with ProgressLine() as line:
        line("one", 0.0)
        line("one", 0.5)
        line("two", 1.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [text[9:] for text in captured.err.splitlines()] == ["    0% one", "  100% two"]
    assert "\x1b" not in captured.err


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Data has stdout to itself."""
    note("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(" hello\n")


@pytest.mark.parametrize(
    ("exc", "code", "words"),
    [
        (InvalidBundle("no such folder"), 65, "drlctl train"),
        (PeerLost("silence"), 69, "drlctl up"),
        (MissingExtra("no torch"), 69, "pip install"),
        (InvalidConfig("bad key"), 78, "bad key"),
        (FileNotFoundError(2, "No such file", "x.png"), 1, "x.png"),
        (ZeroDivisionError("oops"), 70, "DRLCTL_DEBUG=1"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(), 143, "SIGTERM"),
    ],
)
def test_every_exception_becomes_a_message_and_a_code(
    exc: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong, how to mend it, and a documented number; never a traceback."""
    monkeypatch.delenv("DRLCTL_DEBUG", raising=False)
    assert report(exc) == code
    assert code in EXIT_CODES
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_sigterm_unwinds_once() -> None:
    """The first one raises, so that `with` blocks clean up; a second one would end the process at once."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        raise_on_sigterm()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is asked for by the name that pip knows."""
    monkeypatch.setitem(EXTRAS, "report", ("no_such_package_at_all",))
    with pytest.raises(MissingExtra, match=r"drlctl\[report\]"):
        require("train", "report")
    require("train")


def test_host_and_port() -> None:
    """HOST:PORT, IPv6 in brackets."""
    assert parse_host_port("127.0.0.1:9100") == ("127.0.0.1", 9100)
    assert parse_host_port("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("text", ["", "9100", "localhost", ":9100", "localhost:", "localhost:x", "localhost:70000", "localhost:-1"])
def test_what_is_no_host_and_port(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(InvalidConfig, match=r"127\.0\.0\.1:9100"):
        parse_host_port(text)
