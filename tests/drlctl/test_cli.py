"""The command line as users and scripts meet it: help, JSON, exit codes, errors that say how to mend them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drlctl.exit_codes import EXIT_CODES
from runtime import errors
from tests.drlctl.conftest import RunHere
from tests.drlctl.processes import ENVIRONMENT, run_cli

COMMANDS = (
    "demo", "up", "node", "profile", "train", "serve", "infer", "evaluate", "techniques", "video", "fit", "levels", "report",
    "doctor", "models",
)  # fmt: skip


def test_help_lists_every_command_and_exit_code() -> None:
    """`drlctl --help` is where one starts."""
    shown = run_cli("--help")
    assert shown.returncode == 0
    listed = re.findall(r"^  ([a-z]+)  ", shown.stdout, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert all(f"{code}  {meaning}" in shown.stdout for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, run_here: RunHere, tmp_path: Path) -> None:
    """Each says what it does, and every option says what it is for."""
    shown = run_here(command, "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"Usage: drlctl {command}" in shown.stdout
    for line in shown.stdout.splitlines():
        option = re.match(r"  (-\S+.*?)(  +(.*))?$", line)
        assert option is None or option[3] or len(option[1]) > 20, f"{command}: no help for {line!r}"


def test_help_loads_nothing_heavy() -> None:
    """The command line's start-up pays for typer only."""
    code = (
        "import sys, drlctl.cli; "
        "print([name for name in ('numpy', 'gymnasium', 'torch', 'zmq', 'rich', 'PIL', 'onnxruntime', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_error_has_a_documented_exit_code() -> None:
    """Whatever class of error a command raises, its code is in the help."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DrlctlError)]
    assert {kind.exit_code for kind in kinds} <= set(EXIT_CODES)


CASES = {
    "unknown scenario": (78, ("up", "no-such-scenario")),
    "unknown scenario, profile": (78, ("profile", "no-such-scenario")),
    "unknown scenario, demo": (78, ("demo", "--scenario", "no-such-scenario")),
    "bad scenario": (78, ("up", "{bad_scenario}")),
    "no bundle": (65, ("serve", "{tmp}/nothing")),
    "bad bundle": (65, ("serve", "{bad_bundle}")),
    "bad cost model": (65, ("serve", "{bundle}", "--cost-model", "{bad_scenario}")),
    "bad address": (78, ("serve", "{bundle}", "--listen", "nonsense")),
    "bad http": (78, ("serve", "{bundle}", "--http", "nonsense")),
    "no profile": (65, ("train", "--profile", "{tmp}/nothing.json")),
    "bad profile": (65, ("evaluate", "--profile", "{bad_scenario}")),
    "no run": (65, ("report", "{tmp}")),
    "nobody there": (69, ("infer", "{picture}", "--state", "{tmp}/nothing.json")),
    "nobody at that address": (69, ("infer", "{picture}", "--address", "tcp://127.0.0.1:1")),
    "not a state file": (78, ("infer", "{picture}", "--state", "{bad_scenario}")),
    "no such command": (2, ("launch",)),
    "no such option": (2, ("doctor", "--fast")),
    "wrong type": (2, ("train", "--profile", "x", "--n-timesteps", "many")),
    "wrong tier": (2, ("node", "--tier", "moon")),
}


IN_A_PROCESS = {"bad scenario", "bad bundle", "nobody there", "no such option"}
"""One case of each code is run as users run it, to the end of the interpreter."""


@pytest.mark.parametrize("what", CASES)
def test_exit_codes(what: str, tmp_path: Path, bundle_path: Path, run_here: RunHere) -> None:
    """Each fault has its number, one message on stderr that says `error`, no traceback, and nothing on stdout."""
    bad_scenario = tmp_path / "bad.toml"
    bad_scenario.write_text('name = "bad"\nspeed = 3\n')
    bad_bundle = tmp_path / "bad-bundle"
    bad_bundle.mkdir()
    (bad_bundle / "manifest.json").write_text("{}")
    places = {"tmp": tmp_path, "bad_scenario": bad_scenario, "bad_bundle": bad_bundle, "bundle": bundle_path, "picture": tmp_path / "x.png"}
    code, arguments = CASES[what]
    given = [argument.format(**places) for argument in arguments]
    done = run_cli(*given) if what in IN_A_PROCESS else run_here(*given, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "error" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_wrong_key_is_named_with_what_is_allowed(tmp_path: Path) -> None:
    """A scenario's typo is answered with the place and the allowed keys."""
    path = tmp_path / "bad.toml"
    path.write_text('name = "bad"\n[workload]\nrate = 3\n')
    done = run_cli("up", str(path))
    assert done.returncode == 78
    assert "workload" in done.stderr
    assert "rate_per_s" in done.stderr


def test_an_evaluation_says_how_it_is_simulated(tmp_path: Path, run_here: RunHere) -> None:
    """Which simulator it is held against and why, and what that leaves out, before anything is played."""
    path = tmp_path / "batches.toml"
    keys = ('name = "batches"', "[topology.edge.batching]", "max_batch = 4", "[techniques]", 'codecs = ["identity", "int8"]')
    path.write_text("\n".join(keys))
    said = run_here("evaluate", str(path), "--profile", str(tmp_path / "none.json"), cwd=tmp_path).stderr
    assert "simulated by events, for edge.batching" in said
    assert "not modelled by the simulator: techniques.codecs" in said


def test_doctor_as_json() -> None:
    """Every check has a name and a verdict; this machine is fit, or the exit code says that it is not."""
    done = run_cli("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["fit"] else 1)
    assert {check["verdict"] for check in report["checks"]} <= {"ok", "warn", "fail"}
    assert {"python", "packages", "extra secure", "loopback", "cache"} <= {check["name"] for check in report["checks"]}


def test_doctor_fails_when_the_cache_cannot_be_written(tmp_path: Path) -> None:
    """What is essential and broken is named with its mending, and the exit code is 1."""
    (tmp_path / "file").write_text("")
    done = run_cli("doctor", env={"DRLCTL_CACHE": str(tmp_path / "file" / "cache")})
    assert done.returncode == 1
    assert "fail: cache: set DRLCTL_CACHE" in done.stdout


def test_doctor_counts_builds_of_a_model(digits_model: Path, tmp_path: Path) -> None:
    """A model that lies in the cache twice, because its code changed, is one line and not two."""
    for number in range(2):
        shutil.copytree(digits_model, tmp_path / "models" / f"{digits_model.name}-{number}")
    done = run_cli("doctor", env={"DRLCTL_CACHE": str(tmp_path)})
    assert "(fp32, int8) in 2 builds" in done.stdout


def test_version() -> None:
    """`--version` prints it and nothing else."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run_cli("--version").stdout)


def test_debug_shows_where_it_happened(tmp_path: Path) -> None:
    """DRLCTL_DEBUG=1 adds the traceback that is otherwise left out."""
    done = run_cli("serve", str(tmp_path / "nothing"), env={"DRLCTL_DEBUG": "1"})
    assert done.returncode == 65
    assert "Traceback" in done.stderr


def test_an_interrupt_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C is not a crash: `infer` waiting for a silent peer is interrupted cleanly."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "drlctl", "profile", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        writer = pipe.open("w")  # opens once the command is reading the scenario, and keeps it waiting there
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        writer.close()
    assert process.returncode == 130
    assert stderr.decode().strip() == "interrupted"


def test_sigterm_ends_with_143(tmp_path: Path) -> None:
    """A command that is told to stop unwinds, says so, and tells the shell which signal it was."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "drlctl", "profile", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        writer = pipe.open("w")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
        writer.close()
    assert process.returncode == 143
    assert stderr.decode().strip() == "ended by SIGTERM"
