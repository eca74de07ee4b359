"""Is this machine fit to run drlctl?  One small check per question; none of them changes anything."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import msgspec
import psutil

from envs.scenario import load_scenario, shipped_scenarios
from runtime.codec import from_frames, to_frames
from runtime.errors import DrlctlError
from runtime.files import cache_dir
from runtime.messages import Ping
from runtime.models.manifest import MANIFEST_NAME, load_manifest
from runtime.transport import Context, Poller

Verdict = Literal["ok", "warn", "fail"]

BASE = ("gymnasium", "msgspec", "numpy", "onnxruntime", "pillow", "prometheus-client", "psutil", "pyzmq", "rich", "safetensors", "typer")
EXTRAS = {
    "train": ("torch", "stable-baselines3", "onnx", "onnxscript", "scikit-learn"),
    "report": ("matplotlib",),
    "secure": ("cryptography",),
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

NUM_ECHOES = 200
ECHO_TIMEOUT_S = 2.0
MIN_CORES = 2
MIN_FREE_BYTES = 2 * 1024**3
"""The demo's four processes and its trainer take about half of this."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question and its answer."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


def examine() -> list[Check]:
    """Ask every question.  `fail` means that drlctl cannot do its work here; `warn`, that a part of it cannot."""
    questions: tuple[Callable[[], Check], ...] = (
        _python,
        _base,
        _train,
        _report,
        _secure,
        _cores,
        _threads,
        _memory,
        _loopback,
        _cache,
        _models,
    )
    return [*(question() for question in questions), *(_scenario(name) for name in shipped_scenarios())]


def is_fit(checks: list[Check]) -> bool:
    """Whether nothing essential fails."""
    return all(check.verdict != "fail" for check in checks)


def _python() -> Check:
    detail = (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, drlctl {_version('drlctl') or 'not installed'}"
    )
    good = sys.version_info >= (3, 11)
    return Check(name="python", verdict="ok" if good else "fail", detail=detail, fix="" if good else "install Python 3.11 or newer")


def _base() -> Check:
    missing = [name for name in BASE if _version(name) is None]
    fix = "from a clone: pip install -e . -c constraints.txt" if missing else ""
    return Check(name="packages", verdict="fail" if missing else "ok", detail=_versions(BASE), fix=fix)


def _train() -> Check:
    return _extra("train")


def _report() -> Check:
    return _extra("report")


def _secure() -> Check:
    return _extra("secure")


def _extra(extra: str) -> Check:
    missing = [name for name in EXTRAS[extra] if _version(name) is None]
    fix = f"from a clone: pip install -e '.[{extra}]' -c constraints.txt" if missing else ""
    return Check(name=f"extra {extra}", verdict="warn" if missing else "ok", detail=_versions(EXTRAS[extra]), fix=fix)


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    few = cores < MIN_CORES
    fix = "device, edge and cloud will share one core: emulated times overrun" if few else ""
    return Check(name="cores", verdict="warn" if few else "ok", detail=f"{cores} usable, load {load:.1f}", fix=fix)


def _threads() -> Check:
    found = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    many = any(value != "1" for value in found.values())
    detail = ", ".join(f"{name}={value}" for name, value in found.items()) or "one per process (drlctl's default)"
    fix = "unset them: two processes with two threads each on two cores are several times slower" if many else ""
    return Check(name="threads", verdict="warn" if many else "ok", detail=detail, fix=fix)


def _memory() -> Check:
    free = psutil.virtual_memory().available
    low = free < MIN_FREE_BYTES
    return Check(
        name="memory",
        verdict="warn" if low else "ok",
        detail=f"{free / 1024**3:.1f} GiB available",
        fix="close something: the demo wants 2 GiB" if low else "",
    )


def _loopback() -> Check:
    try:
        seconds = sorted(_echo(NUM_ECHOES))
    except (DrlctlError, OSError) as exc:
        return Check(
            name="loopback", verdict="fail", detail=f"ZeroMQ over 127.0.0.1 does not work: {exc}", fix="allow TCP on the loopback interface"
        )
    detail = f"ZeroMQ echo over 127.0.0.1: median {seconds[len(seconds) // 2] * 1e6:.0f} us, worst {seconds[-1] * 1e6:.0f} us"
    return Check(name="loopback", verdict="ok", detail=detail)


def _echo(count: int) -> list[float]:
    """Seconds of `count` round trips between two sockets of this process."""
    seconds = []
    with Context() as context:
        router = context.router()
        dealer = context.dealer(router.address)
        try:
            here, there = Poller([dealer]), Poller([router])
            for sequence in range(count):
                started_s = time.perf_counter()
                until_s = started_s + ECHO_TIMEOUT_S
                while not dealer.send(to_frames(Ping(sequence=sequence))) and time.perf_counter() < until_s:
                    there.wait(0.01)  # not connected yet
                received = router.recv() if there.wait(ECHO_TIMEOUT_S) else None
                answer = dealer.recv() if received and router.send(*received) and here.wait(ECHO_TIMEOUT_S) else None
                if answer is None or from_frames(answer)[0] != Ping(sequence=sequence):
                    raise OSError(f"echo {sequence} did not come back within {ECHO_TIMEOUT_S:g} s")
                seconds.append(time.perf_counter() - started_s)
        finally:
            dealer.close()
            router.close()
    return seconds


def _cache() -> Check:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        return Check(
            name="cache", verdict="fail", detail=f"{folder}: {exc.strerror}", fix="set DRLCTL_CACHE to a folder that can be written"
        )
    free = psutil.disk_usage(str(folder)).free
    return Check(name="cache", verdict="ok", detail=f"{folder}, {free / 1024**3:.1f} GiB free")


def _models() -> Check:
    found = []
    for path in sorted(cache_dir().rglob(MANIFEST_NAME)):
        try:
            manifest = load_manifest(path.parent)
        except DrlctlError as exc:
            return Check(name="models", verdict="warn", detail=str(exc), fix=f"remove {path.parent}; it is built again when needed")
        found.append(f"{manifest.model} ({', '.join(sorted(manifest.variants))})")
    kinds = Counter(found)  # a model that was built again, after its code or its wishes changed, lies there once more
    fix = "" if found else "none built yet: `drlctl demo` or `drlctl profile` builds what a scenario needs (extra train)"
    return Check(name="models", verdict="ok" if found else "warn", detail=_counted(kinds) or "none", fix=fix)


def _counted(kinds: Counter[str]) -> str:
    return "; ".join(kind if count == 1 else f"{kind} in {count} builds" for kind, count in kinds.items())


def _scenario(name: str) -> Check:
    try:
        scenario = load_scenario(name)
    except DrlctlError as exc:
        return Check(name=f"scenario {name}", verdict="fail", detail=str(exc), fix="restore the file that was shipped")
    return Check(name=f"scenario {name}", verdict="ok", detail=scenario.description or scenario.model)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions(packages: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in packages)
