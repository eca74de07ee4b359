"""Plays every policy on every seed, fairly, and survives what breaks.

Every policy meets the same arrivals, pictures and links (all are functions of the seed).  What the host does
meanwhile is not: it drifts.  So policies take turns within each seed, and each seed starts at another policy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import msgspec

from agents.policy import Policy
from envs.scenario import Scenario
from envs.system import Step, System
from experiments.annotate import Annotator, Knowledge
from experiments.host import StealMeter
from experiments.records import Record, RecordWriter, SystemKind
from experiments.rollout import Observer, Player, run_episode

logger = logging.getLogger(__name__)


class EpisodeFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An episode that could not be played to its end; it has no records."""

    policy: str
    seed: int
    error: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an evaluation is."""

    system: SystemKind
    policy: str
    seed: int
    episode: int
    """Index of the running episode, from 0."""
    num_episodes: int
    num_ended: int
    """Requests of it that have ended."""
    num_requests: int


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What was played: records in playing order, and the episodes that broke."""

    records: tuple[Record, ...]
    failures: tuple[EpisodeFailure, ...]


def held_out(scenario: Scenario) -> Scenario:
    """The scenario with episodes as long as its evaluation says: what evaluations play and systems must be made for."""
    workload = msgspec.structs.replace(scenario.workload, num_requests=scenario.evaluation.num_requests)
    return msgspec.structs.replace(scenario, workload=workload)


def schedule(names: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """(policy, seed) in playing order: seed by seed, each starting further along the list, spread evenly over it."""
    turns = []
    for index, seed in enumerate(seeds):
        shift = index * len(names) // len(seeds)
        turns += [(name, seed) for name in [*names[shift:], *names[:shift]]]
    return turns


class Stage:
    """A scenario on its system, which is made at once, and again after an episode broke.  Leaving its `with` block closes it."""

    def __init__(
        self,
        scenario: Scenario,
        make_system: Callable[[], System],
        *,
        run: str = "",
        system_kind: SystemKind = "live",
        knowledge: Knowledge | None = None,
        fallback: Policy | None = None,
    ) -> None:
        """`scenario` as `held_out` makes it.  Raises what `make_system` raises."""
        self.system_kind = system_kind
        self.num_requests = scenario.workload.num_requests
        self._annotator = Annotator(run, scenario, system_kind, knowledge or Knowledge())
        self._fallback, self._make_system = fallback, make_system
        self._system: System | None = make_system()
        self._broken: Exception | None = None

    def play(self, name: str, player: Player, seed: int, observers: Sequence[Observer] = ()) -> list[Record]:
        """One episode as records, the player called `name`.  Raises what system and policy raise."""
        episode = run_episode(self._running(), player, seed, observers, num_requests=self.num_requests, fallback=self._fallback)
        return self._annotator.records(msgspec.structs.replace(episode, policy=name))

    def discard(self) -> None:
        """Close the running system, if there is one; that it cannot even be closed is only logged."""
        system, self._system = self._system, None
        try:
            if system is not None:
                system.close()
        except Exception:
            logger.warning("a broken system could not be closed", exc_info=True)

    def _running(self) -> System:
        """The running system, made anew if the last was discarded.  Once that has failed it is not tried again."""
        if self._broken is not None:
            raise self._broken
        if self._system is None:
            try:
                self._system = self._make_system()
            except Exception as exc:
                self._broken = exc
                raise
        return self._system

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._system is not None:
            self._system.close()


class Turn(NamedTuple):
    """One episode to be played."""

    stage: Stage
    name: str
    """What records call the player."""
    player: Player
    seed: int


def evaluate(
    scenario: Scenario,
    make_system: Callable[[], System],
    players: Mapping[str, Player],
    seeds: Iterable[int],
    *,
    run: str = "",
    system_kind: SystemKind = "live",
    knowledge: Knowledge | None = None,
    fallback: Policy | None = None,
    writer: RecordWriter | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Play `scenario` (as `held_out` makes it) once per policy and seed, as `play_turns` does.

    Raises what `make_system` raises the first time, and the writer's OSError.
    """
    stage = Stage(scenario, make_system, run=run, system_kind=system_kind, knowledge=knowledge, fallback=fallback)
    with stage:
        turns = [Turn(stage, name, players[name], seed) for name, seed in schedule(list(players), list(seeds))]
        return play_turns(turns, writer=writer, progress=progress)


def play_turns(
    turns: Sequence[Turn], *, writer: RecordWriter | None = None, progress: Callable[[Progress], None] | None = None
) -> Evaluation:
    """Play episodes one after another, on one stage or several; records are written as episodes end.

    After an episode that broke its stage's system is closed, for nobody knows what state it is in, and made again for the
    next one there.  Such an episode is reported and the rest is played; when no system can be made again, the rest of that
    stage is reported too.  Raises the writer's OSError.
    """
    records: list[Record] = []
    failures: list[EpisodeFailure] = []
    for index, (stage, name, player, seed) in enumerate(turns):
        start = Progress(
            system=stage.system_kind,
            policy=name,
            seed=seed,
            episode=index,
            num_episodes=len(turns),
            num_ended=0,
            num_requests=stage.num_requests,
        )
        meter = StealMeter()
        try:
            played = stage.play(name, player, seed, [_Reporter(progress, start)] if progress is not None else [])
        except Exception as exc:  # systems and policies may be anybody's: whatever they raise must not lose the rest
            logger.warning("%s, seed %d: episode lost: %s", name, seed, exc, exc_info=True)
            failures.append(EpisodeFailure(policy=name, seed=seed, error=f"{type(exc).__name__}: {exc}"))
            stage.discard()
            continue
        if stage.system_kind == "live":
            steal = meter.fraction()
            played = [msgspec.structs.replace(record, host_steal=steal) for record in played]
        records += played
        if writer is not None:
            writer.write(played)
    return Evaluation(records=tuple(records), failures=tuple(failures))


class _Reporter:
    """Turns an episode's steps into progress reports."""

    def __init__(self, report: Callable[[Progress], None], start: Progress) -> None:
        self._report = report
        self._start = start

    def __call__(self, step: Step, num_ended: int) -> None:
        self._report(msgspec.structs.replace(self._start, num_ended=num_ended))
