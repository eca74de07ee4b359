"""`drlctl techniques` as a function: nodes are started and measured, and every technique plays the same requests off and on."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
from experiments.evaluate import Progress as Played
from experiments.evaluate import evaluate, held_out
from experiments.records import Record, RecordWriter
from experiments.runs import RunFolder, create_run
from experiments.techniques import Effect, Technique, all_techniques, effects
from runtime.errors import InvalidInput
from runtime.files import write_atomically
from runtime.profile import Profile, save_profile

CODECS = ("identity", "fp16", "int8", "int8+zstd", "topk10", "identity+zstd", "identity+lz4")
"""Those shown unless the scenario lists its own."""
EFFECTS_NAME = "techniques.json"


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

    Raises InvalidInput for an unknown name or when an episode broke, and what `profile_nodes` and `create_run` raise.
    """
    played = held_out(with_evaluation(with_all_techniques(scenario, names), seeds, num_requests))
    with started_nodes(played) as nodes:
        profile, _ = profile_nodes(played, nodes, lambda text, share: progress(text, share * 0.3))
    chosen = _chosen(all_techniques(played, build_cost_model(profile, played)), names)
    folder = create_run(root, played, command=["drlctl", *sys.argv[1:]], seeds=played.evaluation.seeds, learned=None, name=run_name)
    save_profile(profile, folder.path / "profile.json")
    records = _play(chosen, profile, folder, playing(lambda text, share: progress(text, 0.3 + share * 0.7)))
    found = effects(chosen, records)
    write_atomically(folder.path / EFFECTS_NAME, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return folder, found


def _play(techniques: tuple[Technique, ...], profile: Profile, folder: RunFolder, progress: Callable[[Played], None]) -> tuple[Record, ...]:
    """Play all trials, those of one scenario on the same nodes."""
    trials = [(name, trial) for each in techniques for name, trial in zip(each.players, (each.off, each.on), strict=True)]
    scenarios = list({msgspec.json.encode(trial.scenario): trial.scenario for _, trial in trials}.values())
    records: list[Record] = []
    with RecordWriter(folder.records) as writer:
        for index, scenario in enumerate(scenarios):
            players = {name: Static(name, trial.decision) for name, trial in trials if trial.scenario == scenario}
            records += evaluate(
                scenario,
                _launcher(scenario, profile),
                players,
                scenario.evaluation.seeds,
                run=folder.path.name,
                knowledge=knowledge_of(scenario, profile, build_cost_model(profile, scenario)),
                writer=writer,
                progress=_part(progress, index, len(scenarios)),
            ).records
    return tuple(records)


def _launcher(scenario: Scenario, profile: Profile) -> Callable[[], LiveSystem]:
    return lambda: launch_live(scenario, profile=profile, split=SPLIT, entry=NODE_ENTRY)


def _part(progress: Callable[[Played], None], index: int, count: int) -> Callable[[Played], None]:
    """Shows the episodes of one of several evaluations as a part of them all."""

    def show(played: Played) -> None:
        all_episodes = played.num_episodes * count
        progress(msgspec.structs.replace(played, episode=index * played.num_episodes + played.episode, num_episodes=all_episodes))

    return show


def with_all_techniques(scenario: Scenario, names: tuple[str, ...]) -> Scenario:
    """The scenario with everything on that decisions can use: its own codecs if it lists any; of these only the named, if some are."""
    codecs = scenario.techniques.codecs if len(scenario.techniques.codecs) > 1 else CODECS
    if names:
        codecs = tuple(codec for codec in codecs if codec == "identity" or f"codec {codec}" in names)
    return msgspec.structs.replace(scenario, techniques=Techniques(codecs=codecs, early_exit=True))


def _chosen(every: tuple[Technique, ...], names: tuple[str, ...]) -> tuple[Technique, ...]:
    known = {technique.name: technique for technique in every}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidInput(f"no technique {', '.join(unknown)} here; there is {', '.join(known)}")
    return tuple(known[name] for name in names) if names else every
