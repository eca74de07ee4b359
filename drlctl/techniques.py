"""`drlctl techniques` as a function: nodes are started and measured, and every technique plays the same requests off and on.

The host drifts, so both settings of a technique take turns, block by block: a block is one short episode of a seed of its own.
Which of the two begins alternates too.  Settings of a node need nodes of their own; both sets run at once while they take turns.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from agents.heuristics.selection import Static
from drlctl.contest import SPLIT, knowledge_of
from drlctl.evaluation import playing, with_evaluation
from drlctl.output import Progress
from drlctl.profiling import profile_nodes, started_nodes
from drlctl.systems import NODE_ENTRY
from envs.costs import build_cost_model
from envs.live import LiveSystem, launch_live
from envs.scenario import Scenario, Techniques
from experiments.evaluate import Evaluation, Stage, Turn, held_out, play_turns
from experiments.evaluate import Progress as Played
from experiments.records import RecordWriter
from experiments.runs import RunFolder, create_run
from experiments.technique_effects import Effect, effects
from experiments.techniques import Technique, Trial, all_techniques
from runtime.errors import InvalidInput
from runtime.files import write_atomically
from runtime.profile import Profile, save_profile

CODECS = ("identity", "fp16", "int8", "int8+zstd", "topk10", "identity+zstd", "identity+lz4")
"""Those shown unless the scenario lists its own."""
EFFECTS_NAME = "techniques.json"
DECISION_BUDGET_S = 0.2
"""Every decision is known beforehand here: one that the busy host brings late must not become another decision."""
NUM_BLOCKS, SHORTEST_BLOCK = 6, 20
"""What a scenario's evaluation plays per policy is divided into so many blocks, of so many requests at least."""


def show_techniques(
    scenario: Scenario,
    *,
    names: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    num_requests: int | None = None,
    root: Path,
    run_name: str | None = None,
    progress: Progress,
) -> tuple[RunFolder, tuple[Effect, ...]]:
    """Play every technique (or those named) off and on, live; leave records and techniques.json in a run folder.

    `seeds` and `num_requests` are the blocks and their length; by default `in_blocks` says.  Episodes that broke are in `Effect.lost`.
    Raises InvalidInput for an unknown name and for a technique of which no block was played both off and on, and what
    `profile_nodes` and `create_run` raise.
    """
    shown = with_all_techniques(in_blocks(scenario), names)
    played = held_out(with_evaluation(shown, seeds, num_requests))
    with started_nodes(played) as nodes:
        profile, _ = profile_nodes(played, nodes, lambda text, share: progress(text, share * 0.2))
    chosen = _chosen(all_techniques(played, build_cost_model(profile, played)), names)
    folder = create_run(root, played, command=["drlctl", *sys.argv[1:]], seeds=played.evaluation.seeds, learned=None, name=run_name)
    save_profile(profile, folder.path / "profile.json")
    outcome = _play(chosen, profile, folder, playing(lambda text, share: progress(text, 0.2 + share * 0.8)))
    found = effects(chosen, outcome.records, outcome.failures)
    write_atomically(folder.path / EFFECTS_NAME, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return folder, found


def in_blocks(scenario: Scenario) -> Scenario:
    """The scenario evaluated on as many requests, in more and shorter episodes."""
    seeds, num_requests = scenario.evaluation.seeds, scenario.evaluation.num_requests
    length = max(SHORTEST_BLOCK, -(-len(seeds) * num_requests // NUM_BLOCKS))
    evaluation = msgspec.structs.replace(scenario.evaluation, seeds=tuple(range(seeds[0], seeds[0] + NUM_BLOCKS)), num_requests=length)
    return msgspec.structs.replace(scenario, evaluation=evaluation)


def in_turns(techniques: Iterable[Technique], seeds: Iterable[int]) -> list[tuple[int, str, Trial]]:
    """(seed, player, trial) in playing order: in every block off and on of a technique follow each other, on first in every other."""
    turns = []
    for block, seed in enumerate(seeds):
        for technique in techniques:
            pair = list(zip(technique.players, (technique.off, technique.on), strict=True))
            turns += [(seed, name, trial) for name, trial in (reversed(pair) if block % 2 else pair)]
    return turns


def with_all_techniques(scenario: Scenario, names: tuple[str, ...]) -> Scenario:
    """The scenario with everything on that decisions can use: its own codecs if it lists any; of these only the named, if some are."""
    codecs = scenario.techniques.codecs if len(scenario.techniques.codecs) > 1 else CODECS
    if names:
        codecs = tuple(codec for codec in codecs if codec == "identity" or f"codec {codec}" in names)
    topology = msgspec.structs.replace(scenario.topology, decision_budget_s=max(DECISION_BUDGET_S, scenario.topology.decision_budget_s))
    return msgspec.structs.replace(scenario, topology=topology, techniques=Techniques(codecs=codecs, early_exit=True))


def _play(techniques: tuple[Technique, ...], profile: Profile, folder: RunFolder, progress: Callable[[Played], None]) -> Evaluation:
    """Play all trials, techniques that need the same nodes together."""
    groups: dict[bytes, list[Technique]] = {}
    for technique in techniques:
        groups.setdefault(msgspec.json.encode([technique.off.scenario, technique.on.scenario]), []).append(technique)
    played = Evaluation(records=(), failures=())
    with RecordWriter(folder.records) as writer:
        for group in groups.values():
            shown = _part(progress, len(played.records), len(techniques), group)
            more = _play_group(group, profile, folder.path.name, writer, shown)
            played = Evaluation(records=played.records + more.records, failures=played.failures + more.failures)
    return played


def _play_group(
    group: list[Technique], profile: Profile, run: str, writer: RecordWriter, progress: Callable[[Played], None]
) -> Evaluation:
    """Play techniques whose scenarios are the same two, or one."""
    with contextlib.ExitStack() as stack:
        stages: dict[bytes, Stage] = {}
        for scenario in (group[0].off.scenario, group[0].on.scenario):
            key = msgspec.json.encode(scenario)
            if key not in stages:
                stages[key] = stack.enter_context(_stage(scenario, profile, run))
        turns = [
            Turn(stages[msgspec.json.encode(trial.scenario)], name, Static(name, trial.decision), seed)
            for seed, name, trial in in_turns(group, group[0].off.scenario.evaluation.seeds)
        ]
        return play_turns(turns, keep_awake=group[0].off.scenario.evaluation.keep_awake, writer=writer, progress=progress)


def _stage(scenario: Scenario, profile: Profile, run: str) -> Stage:
    knowledge = knowledge_of(scenario, profile, build_cost_model(profile, scenario))
    return Stage(scenario, _launcher(scenario, profile), run=run, knowledge=knowledge)


def _launcher(scenario: Scenario, profile: Profile) -> Callable[[], LiveSystem]:
    return lambda: launch_live(scenario, profile=profile, split=SPLIT, entry=NODE_ENTRY)


def _part(progress: Callable[[Played], None], num_before: int, num_techniques: int, group: list[Technique]) -> Callable[[Played], None]:
    """Shows the episodes of one group as a part of them all; `num_before` counts the records there are."""

    def show(played: Played) -> None:
        before, per_technique = num_before // played.num_requests, played.num_episodes // len(group)
        progress(msgspec.structs.replace(played, episode=before + played.episode, num_episodes=num_techniques * per_technique))

    return show


def _chosen(every: tuple[Technique, ...], names: tuple[str, ...]) -> tuple[Technique, ...]:
    known = {technique.name: technique for technique in every}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidInput(f"no technique {', '.join(unknown)} here; there is {', '.join(known)}")
    return tuple(known[name] for name in names) if names else every
