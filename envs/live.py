"""The live system: real requests at their real times, through real processes.

A thread of its own plays the workload and hears outcomes, so that the world goes on while an agent thinks.
The device asks this system (or a daemon, if told so) for each decision; one not answered within the
device's budget is taken by its fallback, and its outcome says so.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple

import msgspec
import numpy as np

from envs.inputs import perturbed_picture
from envs.live_job import LiveJob, live_job
from envs.scenario import Scenario
from envs.system import JobReport, Step
from envs.workload import BACKGROUND_ID, background_decision, draw_background, draw_requests
from runtime.codec import Frame, from_frames, to_frames
from runtime.errors import DrlctlError, MalformedMessage, SystemFailure
from runtime.launch import RunningNodes, launch_nodes
from runtime.links import REQUEST_ID_BITS
from runtime.messages import Decided, Decision, EpisodeStarted, Failure, Observation, Outcome, Result, StartEpisode, Submit, TauSpec, Work
from runtime.models.build import ensure_models
from runtime.models.examples import Examples
from runtime.models.manifest import Manifest, load_manifest
from runtime.models.played import load_played
from runtime.profile import Profile
from runtime.transport import Context, Dealer, Poller, Waker

PREPARE_S = 0.5
"""From asking for an episode until its time zero: longer than probing the links takes."""
ANSWER_S = 5.0
"""How long past its deadline a request's outcome may take before the system counts as failed."""
MAX_STARTS = 3
"""How often an episode is begun until somebody is awake to decide its requests."""
BACKGROUND_BUDGET_S = 10.0
SPIN_S = 1e-3
EPISODE_BITS = 28
"""Of an episode's number: wire ids stay below those of sessions (runtime/session.py)."""


class Episode:
    """One episode being played: what is to be sent when, and what came back."""

    def __init__(self, scenario: Scenario, seed: int, number: int, examples: Examples) -> None:
        self.requests = draw_requests(scenario.workload, seed, len(examples.labels))
        self.background_s = draw_background(scenario.background, seed, float(self.requests.arrival_s[-1]))
        self.number, self.seed = number, seed
        self._inputs, self._images = scenario.workload.inputs, examples.images
        self.zero_s = 0.0
        self.next_request = self.next_background = 0
        self.num_ended = 0
        self.background_done = self.background_failed = 0

    @property
    def over(self) -> bool:
        """Every request has ended."""
        return self.num_ended == len(self.requests.arrival_s)

    def picture(self, index: int) -> np.ndarray:
        """What a request brings."""
        image: np.ndarray = self._images[self.requests.example[index]]
        return perturbed_picture(self._inputs, self.seed, index, image) if self.requests.perturbed[index] else image

    def wire_id(self, index: int) -> int:
        """A request's id on the wire: never that of one of the last 2^28 episodes."""
        return (self.number << REQUEST_ID_BITS) | index

    def index_of(self, wire_id: int) -> int | None:
        """Invert `wire_id`; None for another episode's."""
        return wire_id & ((1 << REQUEST_ID_BITS) - 1) if wire_id >> REQUEST_ID_BITS == self.number else None

    def is_background(self, wire_id: int) -> bool:
        """Whether this is one of the episode's background jobs."""
        return self.index_of(wire_id ^ BACKGROUND_ID) is not None

    def next_at_s(self) -> float:
        """When something is to be sent next, on the caller's clock; inf when nothing is."""
        due = np.inf
        if self.next_request < len(self.requests.arrival_s):
            due = self.requests.arrival_s[self.next_request]
        if self.next_background < len(self.background_s):
            due = min(due, self.background_s[self.next_background])
        return float(due) + self.zero_s


class _Beginning(NamedTuple):
    """An order to the playing thread: this episode starts now."""

    start: StartEpisode
    episode: Episode


class LiveSystem:
    """Plays a scenario's workload on running nodes.  Implements `System`; leaving its `with` block ends its thread."""

    def __init__(
        self, scenario: Scenario, device_address: str, edge_address: str, manifest: Manifest, examples: Examples,
        *, profile: Profile | None = None, nodes: RunningNodes | None = None, job: LiveJob | None = None,
    ) -> None:  # fmt: skip
        """`job` trains beside the requests of every episode, and is ended with the system."""
        self.scenario, self.job = scenario, job
        self.num_requests = scenario.workload.num_requests
        self._examples, self._profile, self._nodes = examples, profile, nodes
        self._background = background_decision(scenario.background, manifest.model, manifest.exit_ends)
        self._changed = threading.Condition()
        self._asks: deque[tuple[Observation, float]] = deque()
        self._ended: deque[Outcome] = deque()
        self._orders: deque[Decided | _Beginning] = deque()
        self._episode: Episode | None = None
        self._started_seed: int | None = None
        self._broken: Exception | None = None
        self._number = secrets.randbits(EPISODE_BITS)  # a device that serves on must not see an id again
        self._current: Observation | None = None
        self._closing = False
        with ExitStack() as stack:
            self._context = stack.enter_context(Context())
            self._device = self._context.dealer(device_address)
            stack.callback(self._device.close)
            self._edge = self._context.dealer(edge_address)
            stack.callback(self._edge.close)
            self._router = self._context.router()
            stack.callback(self._router.close)
            self._waker = Waker()
            stack.callback(self._waker.close)
            self._poller = Poller([self._device, self._edge, self._router, self._waker])
            self._controller_peer = b""
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._play, name="live-world", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ System

    def reset(self, seed: int, controller: str | None = None, tau: TauSpec | None = None) -> Step:
        """Start an episode; with `controller`, the device asks that address and not us: then use `wait`.

        `tau`: the rule of the job's tau, see TrainingSystem.  An episode that this process slept through, so that the device
        decided everything itself, is begun again, MAX_STARTS times in all.
        """
        for _ in range(MAX_STARTS - 1):
            step = self._begin(seed, controller, tau)
            slept = step.observation is None and any(outcome.decided_by == "fallback" for outcome in step.outcomes)
            if not slept:
                return step
        return self._begin(seed, controller, tau)

    def _begin(self, seed: int, controller: str | None, tau: TauSpec | None) -> Step:
        self._number = (self._number + 1) % (1 << EPISODE_BITS)
        episode = Episode(self.scenario, seed, self._number, self._examples)
        start = StartEpisode(seed=seed, starts_in_s=PREPARE_S, controller=controller or self._router.address)
        with self._changed:
            self._raise_if_broken()
            self._current, self._started_seed = None, None
        if self.job is not None:
            self.job.begin(self._number, tau)
        self._order(_Beginning(start=start, episode=episode))
        self._await(lambda: self._started_seed == seed, ANSWER_S, "the nodes did not start the episode")
        return self.wait() if controller is None else Step(observation=None, outcomes=())

    def execute(self, decision: Decision) -> Step:
        """Answer the device for the observed request; blocks until the next one asks or the episode is over."""
        if self._current is None:
            raise SystemFailure("no request awaits a decision; call reset first")
        episode = self._episode
        assert episode is not None
        request_id = episode.wire_id(self._current.request_id)
        self._current = None
        self._order(Decided(request_id=request_id, decision=decision))
        return self.wait()

    def wait(self) -> Step:
        """Until a request asks us, or outcomes came that nobody has seen and the episode is over (or a second passed)."""
        with self._changed:
            patience_s = self.scenario.workload.deadline_s + ANSWER_S
            last_s, seen = time.perf_counter(), -1
            while True:
                self._raise_if_broken()
                observation = self._next_ask()
                over = self._episode is not None and self._episode.over
                if observation is not None or over:
                    return self._step(observation)
                if self._episode is not None:
                    progress = self._episode.num_ended + self._episode.next_request + self._episode.next_background
                    if progress != seen:
                        last_s, seen = time.perf_counter(), progress
                    due_s = self._episode.next_at_s()
                    quiet_s = time.perf_counter() - max(last_s, due_s if np.isfinite(due_s) else 0.0)
                    if quiet_s > patience_s:
                        raise SystemFailure(f"requests without an outcome {quiet_s:.1f} s after anything last happened")
                if not self._changed.wait(1.0) and self._nodes is not None:
                    self._nodes.check()

    def _step(self, observation: Observation | None) -> Step:
        outcomes = tuple(self._ended)
        self._ended.clear()
        self._current = observation
        drop = self.job.take_loss_drop() if self.job is not None else 0.0
        return Step(observation=observation, outcomes=outcomes, loss_drop=drop)

    def _next_ask(self) -> Observation | None:
        """The oldest question that the device still waits for."""
        while self._asks:
            observation, asked_at_s = self._asks.popleft()
            if time.perf_counter() - asked_at_s < self.scenario.topology.decision_budget_s:
                return observation
        return None

    def job_report(self) -> JobReport | None:
        """See TrainingSystem."""
        return self.job.report if self.job is not None else None

    def close(self) -> None:
        """End the thread and the sockets, and the nodes if they are ours; safe to call twice."""
        if not self._closing:
            self._closing = True
            self._waker.wake()
            self._thread.join()
            self._stack.close()
            if self.job is not None:
                self.job.end()
            if self._nodes is not None:
                self._nodes.stop()

    def __enter__(self) -> LiveSystem:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------ the playing thread

    def _play(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except Exception as exc:  # noqa: BLE001  # the thread's last words: whoever waits must hear of it
            with self._changed:
                self._broken = exc
                self._changed.notify_all()

    def _turn(self) -> None:
        due_s = self._episode.next_at_s() if self._episode is not None else np.inf
        rest_s = due_s - time.perf_counter()
        if rest_s > SPIN_S:
            self._poller.wait(min(rest_s - SPIN_S, 1.0))
        elif rest_s > 0 and not self._poller.wait(0):
            time.sleep(min(rest_s, SPIN_S))  # finer than a poll's millisecond
        self._waker.clear()
        while self._orders:
            self._obey(self._orders.popleft())
        if self._episode is not None:
            self._send_due(self._episode)
        self._hear()

    def _order(self, order: Decided | _Beginning) -> None:
        self._orders.append(order)
        self._waker.wake()

    def _obey(self, order: Decided | _Beginning) -> None:
        if isinstance(order, Decided):
            self._router.send(self._controller_peer, to_frames(order))
        else:
            self._send(self._device, to_frames(order.start))
            order.episode.zero_s = time.perf_counter() + order.start.starts_in_s
            with self._changed:  # until here the last one went on, if it was given up
                self._asks.clear()
                self._ended.clear()
                self._episode = order.episode

    def _send_due(self, episode: Episode) -> None:
        now_s = time.perf_counter() - episode.zero_s
        arrival_s = episode.requests.arrival_s
        while episode.next_request < len(arrival_s) and arrival_s[episode.next_request] <= now_s:
            index = episode.next_request
            episode.next_request += 1
            picture = episode.picture(index)
            submit = Submit(
                request_id=episode.wire_id(index),
                model=self.scenario.model,
                deadline_s=self.scenario.workload.deadline_s,
                waited_s=max(0.0, time.perf_counter() - episode.zero_s - float(arrival_s[index])),
                stream=self.scenario.workload.inputs.stream,
            )
            self._send(self._device, to_frames(submit, [picture]))
        while episode.next_background < len(episode.background_s) and episode.background_s[episode.next_background] <= now_s:
            index = episode.next_background
            episode.next_background += 1
            work = Work(
                request_id=BACKGROUND_ID | episode.wire_id(index),
                decision=self._background,
                stage=0,
                budget_s=BACKGROUND_BUDGET_S,
                tenant=self.scenario.background.tenant,
                fresh=True,  # their pictures come from the same split, but a neighbour's are others than ours
            )
            self._send(self._edge, to_frames(work, [self._examples.images[index % len(self._examples.labels)]]))

    def _send(self, dealer: Dealer, frames: list[Frame]) -> None:
        until_s = time.perf_counter() + ANSWER_S
        while not dealer.send(frames):  # connecting takes a moment at first
            if time.perf_counter() > until_s or self._closing:
                raise SystemFailure("a node does not take messages")
            self._poller.wait(0.001)

    def _hear(self) -> None:
        while (frames := self._device.recv()) is not None:
            message, _ = from_frames(frames)
            if isinstance(message, Outcome):
                self._ended_one(message)
            elif isinstance(message, EpisodeStarted):
                with self._changed:
                    self._started_seed = message.seed
                    self._changed.notify_all()
        while (frames := self._edge.recv()) is not None:
            message, _ = from_frames(frames)
            if self._episode is not None and isinstance(message, Result | Failure) and self._episode.is_background(message.request_id):
                self._episode.background_done += isinstance(message, Result)
                self._episode.background_failed += isinstance(message, Failure)
        while (received := self._router.recv()) is not None:
            self._asked(*received)

    def _asked(self, peer: bytes, frames: list[Frame]) -> None:
        try:
            message, _ = from_frames(frames)
        except MalformedMessage:
            return  # not our device; nobody waits for an answer
        index = self._episode.index_of(message.request_id) if isinstance(message, Observation) and self._episode else None
        if isinstance(message, Observation) and index is not None:
            self._controller_peer = peer
            with self._changed:
                self._asks.append((msgspec.structs.replace(message, request_id=index), time.perf_counter()))
                self._changed.notify_all()

    def _ended_one(self, outcome: Outcome) -> None:
        episode = self._episode
        index = episode.index_of(outcome.request_id) if episode is not None else None
        if episode is None or index is None:
            return
        finished = self._label(outcome, episode, index)
        with self._changed:
            self._ended.append(finished)
            episode.num_ended += 1
            self._changed.notify_all()

    def _label(self, outcome: Outcome, episode: Episode, index: int) -> Outcome:
        """Add what only the client knows: its own clock, the label, and the profile's privacy measure."""
        latency_s = time.perf_counter() - episode.zero_s - float(episode.requests.arrival_s[index])
        elsewhere_s = outcome.breakdown.total_s() - outcome.breakdown.client_s
        leakage = outcome.leakage
        if self._profile is not None and outcome.decision is not None and outcome.link_bytes[0]:
            leakage = self._profile.variants[outcome.decision.variant].leakage[outcome.decision.cuts[0]]
        label = int(self._examples.labels[episode.requests.example[index]])
        return msgspec.structs.replace(
            outcome,
            request_id=index,
            latency_s=latency_s,
            breakdown=msgspec.structs.replace(outcome.breakdown, client_s=latency_s - elsewhere_s),
            correct=outcome.prediction == label if outcome.prediction is not None else None,
            leakage=leakage,
        )

    def _await(self, condition: Callable[[], bool], timeout_s: float, failure: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._broken is not None or condition(), timeout_s):
                if self._nodes is not None:
                    self._nodes.check()
                raise SystemFailure(f"{failure} within {timeout_s:g} s")
            self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            if self._nodes is not None:
                self._nodes.check()
            if isinstance(self._broken, SystemFailure):
                raise self._broken
            raise SystemFailure(f"the live system's thread ended: {self._broken}") from self._broken


def launch_live(
    scenario: Scenario,
    *,
    profile: Profile | None = None,
    split: str = "test",
    entry: str = "runtime.node",
    cost_model: str = "",
) -> LiveSystem:
    """Build or find the scenario's model, start its nodes, and connect to them; closing it ends the nodes too.

    A scenario's job trains beside the requests of every episode, on a device for each of its clients.
    """
    model_dirs = ensure_models(scenario.models)
    nodes = launch_nodes(scenario.topology, *model_dirs, entry=entry, cost_model=cost_model, num_devices=scenario.num_devices)
    try:
        return LiveSystem(
            scenario,
            nodes.device_address,
            nodes.edge_address,
            load_manifest(model_dirs[0]),
            load_played(model_dirs[0], split),
            profile=profile,
            nodes=nodes,
            job=live_job(scenario, nodes),
        )
    except (DrlctlError, OSError):
        nodes.stop()
        raise
