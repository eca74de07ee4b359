"""Plays every policy on every seed, fairly, and survives what breaks.

Every policy meets the same arrivals, pictures and links (all are functions of the seed).  What the host does
meanwhile is not: it drifts.  So policies take turns within each seed, and each seed starts at another policy; and live
episodes during which the host took the processors away are played again, whatever was measured in them.
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
from experiments.records import Record, RecordWriter, SystemKind
from experiments.rollout import Observer, Player, run_episode
from runtime.awake import kept_awake
from runtime.host import StealMeter, is_disturbed

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
    repeated: bool = False
    """Whether it was played before, and the host disturbed it."""


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

    Episodes that the host disturbed are played again, as many as the scenario's evaluation allows; it also says whether this
    machine's processors are kept awake.
    Raises what `make_system` raises the first time, and the writer's OSError.
    """
    stage = Stage(scenario, make_system, run=run, system_kind=system_kind, knowledge=knowledge, fallback=fallback)
    with stage:
        turns = [Turn(stage, name, players[name], seed) for name, seed in schedule(list(players), list(seeds))]
        rules = scenario.evaluation
        return play_turns(turns, max_repeats=rules.max_repeats, keep_awake=rules.keep_awake, writer=writer, progress=progress)


def play_turns(
    turns: Sequence[Turn],
    *,
    max_repeats: int = 0,
    keep_awake: bool | None = False,
    writer: RecordWriter | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evaluation:
    """Play episodes one after another, on one stage or several; records are written as episodes end.

    While live ones are played, processors are kept from resting if `keep_awake` says so (`kept_awake`).

    At most `max_repeats` live episodes that the host disturbed are played again at the end, the most disturbed first; of
    two attempts the less disturbed one counts, whatever its figures say.  Until then its records are not written.

    After an episode that broke its stage's system is closed, for nobody knows what state it is in, and made again for the
    next one there.  Such an episode is reported and the rest is played; when no system can be made again, the rest of that
    stage is reported too.  Raises the writer's OSError.
    """
    live = any(turn.stage.system_kind == "live" for turn in turns)
    with kept_awake(keep_awake if live else False) as awake:
        return _play_turns(turns, max_repeats, _Playing(len(turns), writer, progress, awake))


def _play_turns(turns: Sequence[Turn], max_repeats: int, playing: _Playing) -> Evaluation:
    disturbed: list[_Played] = []
    try:
        for turn in turns:
            played = playing.play(turn)
            if played is not None and max_repeats and is_disturbed(played.host_steal):
                disturbed.append(played)
            elif played is not None:
                playing.keep(played)
        disturbed.sort(key=lambda played: played.host_steal or 0.0)
        for _ in range(min(max_repeats, len(disturbed))):
            first = disturbed[-1]
            again = playing.play(first.turn, repeated=True)
            disturbed.pop()
            playing.keep(first if again is None else _less_disturbed(first, again))
    finally:
        for played in disturbed:
            playing.keep(played)
    return Evaluation(records=tuple(playing.records), failures=tuple(playing.failures))


class _Played(NamedTuple):
    """An episode that came to its end."""

    turn: Turn
    records: list[Record]
    host_steal: float | None
    """Of a live one, where the system tells."""


def _less_disturbed(first: _Played, again: _Played) -> _Played:
    better = again if (again.host_steal or 0.0) < (first.host_steal or 0.0) else first
    return better._replace(records=[msgspec.structs.replace(record, attempts=2) for record in better.records])


class _Playing:
    """Plays turns, and keeps what comes of them."""

    def __init__(self, num_episodes: int, writer: RecordWriter | None, report: Callable[[Progress], None] | None, kept_awake: bool) -> None:
        self.records: list[Record] = []
        self.failures: list[EpisodeFailure] = []
        self._num_episodes, self._writer, self._report, self._kept_awake = num_episodes, writer, report, kept_awake
        self._next = 0

    def play(self, turn: Turn, *, repeated: bool = False) -> _Played | None:
        """One episode; None when it broke, which is a failure unless there is an earlier attempt."""
        stage, name, player, seed = turn
        start = Progress(
            system=stage.system_kind,
            policy=name,
            seed=seed,
            episode=self._next,
            num_episodes=max(self._num_episodes, self._next + 1),
            num_ended=0,
            num_requests=stage.num_requests,
            repeated=repeated,
        )
        self._next += 1
        meter = StealMeter()
        try:
            records = stage.play(name, player, seed, [_Reporter(self._report, start)] if self._report is not None else [])
        except Exception as exc:  # systems and policies may be anybody's: whatever they raise must not lose the rest
            logger.warning("%s, seed %d: episode lost: %s", name, seed, exc, exc_info=True)
            if not repeated:
                self.failures.append(EpisodeFailure(policy=name, seed=seed, error=f"{type(exc).__name__}: {exc}"))
            stage.discard()
            return None
        steal = meter.fraction() if stage.system_kind == "live" else None
        marked = [msgspec.structs.replace(record, host_steal=steal, kept_awake=self._kept_awake) for record in records]
        return _Played(turn, marked, steal)

    def keep(self, played: _Played) -> None:
        """These records count."""
        self.records += played.records
        if self._writer is not None:
            self._writer.write(played.records)


class _Reporter:
    """Turns an episode's steps into progress reports."""

    def __init__(self, report: Callable[[Progress], None], start: Progress) -> None:
        self._report = report
        self._start = start

    def __call__(self, step: Step, num_ended: int) -> None:
        self._report(msgspec.structs.replace(self._start, num_ended=num_ended))
