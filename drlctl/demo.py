"""The whole way in seven steps: build, start, measure, train, serve, play live, report.

Each step is a small function of what the ones before it gave; `run_demo` strings them together.  Whatever happens,
every process that was started is ended.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agents.training import TrainResult, train
from drlctl.contest import SPLIT, live_contest
from drlctl.evaluation import playing
from drlctl.job_profiling import job_lines
from drlctl.learning import curve_of, learning
from drlctl.output import ProgressLine, note
from drlctl.players import LEARNED, default_names
from drlctl.profiling import profile_nodes, started_nodes
from envs.not_modelled import simulator_notice
from envs.scenario import Scenario
from experiments.comparison import Contest, compare
from experiments.evaluate import held_out
from experiments.learning import save_learning
from experiments.report import write_report
from experiments.runs import RunFolder, create_run
from experiments.summary import Summary
from runtime.launch import RunningNodes
from runtime.models.build import ensure_model
from runtime.models.manifest import load_manifest
from runtime.profile import Profile, save_profile

NUM_STEPS = 7
PROFILE_NAME, TRAINING_NAME = "profile.json", "training"
QUICK_TIMESTEPS = 20_000
QUICK_REQUESTS = 60
QUICK_RECORD_S = 15.0


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo leaves behind."""

    run: str
    """The run's folder."""
    report: str
    bundle: str
    seconds: dict[str, float]
    """Step -> how long it took."""
    summary: Summary


class Steps:
    """Headings and times of the steps, on stderr."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[ProgressLine]:
        """One step: its heading, a progress line while it lasts, and its time."""
        note(f"[{len(self.seconds) + 1}/{NUM_STEPS}] {text}")
        started_s = time.perf_counter()
        with ProgressLine() as line:
            yield line
        self.seconds[name] = round(time.perf_counter() - started_s, 2)
        note(f"      done in {self.seconds[name]:.1f} s")


def quickened(scenario: Scenario) -> Scenario:
    """The same scenario with little training and one short episode per policy: to see it work, not to believe it."""
    training = msgspec.structs.replace(scenario.training, timesteps=min(QUICK_TIMESTEPS, scenario.training.timesteps))
    num_requests = min(QUICK_REQUESTS, scenario.evaluation.num_requests)
    seeds = scenario.evaluation.seeds[:1]
    evaluation = msgspec.structs.replace(scenario.evaluation, seeds=seeds, num_requests=num_requests, max_repeats=0)
    job = scenario.job
    if job is not None:
        job = msgspec.structs.replace(job, num_recordings=1, record_s=min(QUICK_RECORD_S, job.record_s))
    return msgspec.structs.replace(scenario, training=training, evaluation=evaluation, job=job)


def run_demo(scenario: Scenario, root: Path, *, seed: int = 0, name: str | None = None) -> DemoResult:
    """All steps.  Raises what they raise, with everything cleaned up and the run's folder left as far as it came."""
    steps = Steps()
    played = held_out(scenario)
    for line in (*scenario.topology.emulation_notice(), *simulator_notice(scenario)):
        note(line)
    folder = create_run(root, played, command=["drlctl", *sys.argv[1:]], seeds=played.evaluation.seeds, learned=LEARNED, name=name)
    build_model(steps, scenario)
    with contextlib.ExitStack() as stack:
        nodes = start_nodes(steps, scenario, stack)
        profile = measure(steps, scenario, nodes, folder)
    result = learn(steps, scenario, profile, seed, folder)
    with contextlib.ExitStack() as stack:
        contest = serve(steps, played, profile, result.bundle_path, stack)
        summary = play(steps, contest, folder)
    report = tell(steps, result, folder)
    return DemoResult(run=str(folder.path), report=str(report), bundle=str(result.bundle_path), seconds=steps.seconds, summary=summary)


def build_model(steps: Steps, scenario: Scenario) -> None:
    """A multi-exit network in several variants, cut into segments; found in the cache the second time."""
    with steps.step("model", f"build the model {scenario.model}, or find it in the cache") as line:
        manifest = load_manifest(ensure_model(scenario.model, progress=line))
    exits = ", ".join(f"after {end} stages" for end in manifest.exit_ends)
    note(f"      {manifest.num_stages} stages, exits {exits}; measured on pictures it never saw:")
    for name, variant in sorted(manifest.variants.items()):
        accuracy = "  ".join(f"exit {exit} {share:.1%}" for exit, share in enumerate(variant.accuracy[SPLIT]))
        note(f"      {name:<5} accuracy {accuracy}   {variant.size_bytes / 1e6:.2f} MB")


def start_nodes(steps: Steps, scenario: Scenario, stack: contextlib.ExitStack) -> RunningNodes:
    """Device, edge and cloud, each a process of its own."""
    with steps.step("nodes", "start device, edge and cloud"):
        nodes = stack.enter_context(started_nodes(scenario))
        note("      " + ", ".join(f"{tier} {address}" for tier, address in nodes.addresses.items()))
    return nodes


def measure(steps: Steps, scenario: Scenario, nodes: RunningNodes, folder: RunFolder) -> Profile:
    """Each stage of each variant timed on each tier; then the simulator fitted to requests that are really played."""
    with steps.step("profile", "measure the model on them") as line:
        profile, residuals = profile_nodes(scenario, nodes, line)
        save_profile(profile, folder.path / PROFILE_NAME)
    for variant, info in sorted(profile.variants.items()):
        whole_ms = "  ".join(f"{tier} {(sum(seconds) + info.head_s[tier][-1]) * 1e3:.1f} ms" for tier, seconds in info.stage_s.items())
        note(f"      {variant:<5} full model {whole_ms}   bytes at the cuts {', '.join(str(size) for size in info.cut_bytes)}")
    for name, link in (("uplink", profile.uplink), ("wan", profile.wan)):
        note(f"      {name} {link.rate_bytes_per_s * 8e-6:.2f} Mbit/s, {link.delay_s * 1e3:.1f} ms one way")
    memory = ", ".join(f"{tier} {size / 1e6:.0f} MB" for tier, size in profile.memory_bytes.items())
    note(f"      memory {memory}; all of it in {folder.path / PROFILE_NAME}")
    note(f"      the calibrated simulator is off by {residuals.median_abs_fraction:.1%} in the median of {residuals.num_requests} requests")
    for text in job_lines(profile.job) if profile.job is not None else ():
        note(f"      {text}")
    for notice in profile.steal_notice():
        note(f"      {notice}")
    return profile


def learn(steps: Steps, scenario: Scenario, profile: Profile, seed: int, folder: RunFolder) -> TrainResult:
    """PPO in the simulator that the profile calibrates; the best network so far is a bundle on disk."""
    timesteps = scenario.training.timesteps
    with steps.step("train", f"train in the simulator, {timesteps} decisions") as line:
        result = train(scenario, profile, seed=seed, out_dir=folder.path / TRAINING_NAME, progress=learning(line, timesteps))
    note(f"      mean cost against greedy, simulated: {-result.gain_fraction:+.1%}")
    return result


def serve(steps: Steps, played: Scenario, profile: Profile, bundle: Path, stack: contextlib.ExitStack) -> Contest:
    """The bundle in a daemon, `drlctl serve`, that the device will ask for each request."""
    with steps.step("serve", f"serve the bundle {bundle}"):
        return stack.enter_context(live_contest(played, profile, default_names(played), bundle))


def play(steps: Steps, contest: Contest, folder: RunFolder) -> Summary:
    """The daemon against everybody else: same arrivals, pictures and links, in turns; then the same in the simulator."""
    num_requests, num_seeds = contest.scenario.workload.num_requests, len(contest.scenario.evaluation.seeds)
    with steps.step("play", f"play live: {len(contest.players)} policies, {num_seeds} seeds, {num_requests} requests each") as line:
        return compare(contest, folder, playing(line))


def tell(steps: Steps, result: TrainResult, folder: RunFolder) -> Path:
    """report.html with its plots."""
    with steps.step("report", "write the report"):
        save_learning(curve_of(result), folder.learning)
        return write_report(folder)
