"""Fixtures for every part: the one trained model, built once per machine and cached like a user's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from runtime.host import StealMeter, is_disturbed
from runtime.models.build import ensure_model

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of all the processes that tests start only the first compiles this project
settings.register_profile("any host", deadline=None)
settings.load_profile("any host")  # a case that took long says something of the host

TIMED = (
    "conformance/test_systems",
    "drlctl/test_daemon",
    "drlctl/test_up",
    "envs/test_live.py",
    "envs/test_live_loading",
    "runtime/test_live",
)
"""Parts of the ids of tests that keep time with nodes or daemons; others that start nodes give them all the time they want."""
LIVE = (
    *TIMED,
    "drlctl/test_fit",
    "drlctl/test_jobs_live",
    "drlctl/test_levels",
    "drlctl/test_pipeline",
    "envs/test_live",
    "runtime/training/test_live",
)
"""Parts of the ids of tests that a host can fail by taking this machine's processors away."""
MAX_ATTEMPTS = 3
ATTEMPTS = "attempts"
TIMED_SCOPE = "timed"
SHARING = "runtime/training/test_live"
"""Of the files whose tests share one set of nodes."""


def pytest_configure() -> None:
    """A shell ignores Ctrl-C for what it starts with `&`, and so would every process that a test starts to interrupt it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the model before the tests are timed: the first time takes a minute, more on a busy machine."""
    if not session.config.option.collectonly and any("digits_model" in getattr(item, "fixturenames", ()) for item in session.items):
        ensure_model("digits-cnn")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that nobody waits for it at the end."""
    slow = {scope_of(item.nodeid) for item in items if item.get_closest_marker("slow")} - {TIMED_SCOPE}
    items.sort(key=lambda item: (scope_of(item.nodeid) != TIMED_SCOPE, scope_of(item.nodeid) not in slow))


def scope_of(nodeid: str) -> str:
    """What runs in one process: whatever keeps time with live nodes, one at a time; whatever shares nodes; the rest file by file."""
    if any(part in nodeid for part in TIMED):
        return TIMED_SCOPE
    return SHARING if SHARING in nodeid else nodeid.partition("::")[0]


class ByScope(LoadScopeScheduling):
    """For `make test`, two processes at once.  Our own, for xdist has groups by marking node ids, which pytest 9.2 does not let it do."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByScope:
    """Scopes in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return ByScope(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Function, nextitem: pytest.Item | None) -> bool | None:
    """A live test that fails while the host takes processors away is tried again, as episodes are; otherwise a failure is one."""
    if not any(part in item.nodeid for part in LIVE):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        meter = StealMeter()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if attempt == MAX_ATTEMPTS or not (any(report.failed for report in reports) and is_disturbed(meter.fraction())):
            break
        item._initrequest()  # as before the first attempt
    for report in reports:
        report.user_properties.append((ATTEMPTS, attempt))
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which tests were tried again."""
    for report in terminalreporter.stats.get("passed", []):
        if dict(report.user_properties).get(ATTEMPTS, 1) > 1:
            terminalreporter.write_line(f"tried again, for the host took processors away: {report.nodeid}")


@pytest.fixture(scope="session")
def digits_model() -> Path:
    """Directory of the built `digits-cnn`."""
    return ensure_model("digits-cnn")
