"""The controller daemon as a real process, asked over real sockets, signalled and fed rubbish."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from agents.bundle import save_bundle
from agents.learned import BundlePolicy
from runtime.codec import Frame, to_frames
from runtime.messages import Decided, Ping, Pong, Refused, StatusQuery
from tests.drlctl.bundles import make_bundle, make_cost_model
from tests.drlctl.processes import ANSWER_LIMIT_S, Asker, DaemonProcess, asker, daemon, numbered, until
from tests.envs.profiles import make_observation

MAX_RESIDENT_BYTES = 100 * 1024**2


def test_it_decides_as_its_bundle_does(peer: Asker) -> None:
    """Over the wire comes what the policy decides in this process, request by request."""
    policy = BundlePolicy(make_bundle())
    for rate in np.geomspace(1e4, 1e7, 30):
        observation = make_observation(uplink__rate_bytes_per_s=float(rate))
        assert peer.ask(observation) == Decided(request_id=1, decision=policy.decide(observation))


def test_it_says_where_it_can_be_reached(shared: DaemonProcess) -> None:
    """The one line on stdout names the addresses, the bundle and its digest."""
    assert shared.ready["ready"] is True
    assert shared.address.startswith("tcp://127.0.0.1:")
    assert shared.http.startswith("http://127.0.0.1:")
    assert shared.ready["model"] == "digits-cnn"
    assert len(shared.ready["digest"]) == 64


def test_health_pages(shared: DaemonProcess) -> None:
    """Alive and ready, and a status for people; other pages do not exist."""
    assert shared.page("/livez") == (200, "ok\n")
    assert shared.page("/readyz") == (200, "ok\n")
    status = json.loads(shared.page("/status")[1])
    assert status["ready"]
    assert status["live"]
    assert status["pid"] == shared.process.pid
    assert shared.page("/other")[0] == 404


def test_metrics_equal_what_was_sent(running: DaemonProcess, client: Asker) -> None:
    """Each answer is counted once, under who decided and why, and each was timed."""
    limit_s = make_cost_model().peer_timeout_s
    for observation in numbered(make_observation(), 20):
        client.ask(observation)
    for observation in numbered(make_observation(edge__age_s=2 * limit_s), 5):
        client.ask(observation)
    for observation in numbered(make_observation(model="other"), 3):
        assert isinstance(client.ask(observation), Refused)
    until(lambda: running.metric("drlctl_decision_seconds_count") == 28)
    assert running.metric('drlctl_decisions_total{by="controller",reason="policy"}') == 20
    assert running.metric('drlctl_decisions_total{by="fallback",reason="stale_telemetry"}') == 5
    assert running.metric('drlctl_decisions_total{by="nobody",reason="unknown_model"}') == 3
    assert running.metric("drlctl_malformed_total") == 0
    assert running.metric("drlctl_ready") == 1
    assert f'digest="{running.ready["digest"]}"' in running.page("/metrics")[1]


def test_a_ping_is_answered(peer: Asker) -> None:
    """Anyone can ask whether the loop is alive."""
    assert peer.ask(Ping(sequence=9)) == Pong(sequence=9, nodes=())


def test_another_valid_message_is_refused(shared: DaemonProcess, peer: Asker) -> None:
    """A message that is not for a controller is answered with a refusal under its own id, and counted."""
    before = shared.metric("drlctl_malformed_total")
    answer = peer.ask(StatusQuery(request_id=4))
    assert isinstance(answer, Refused)
    assert answer.request_id == 4
    assert shared.metric("drlctl_malformed_total") == before + 1


def rubbish() -> dict[str, list[Frame]]:
    """Messages that are not ours, by what is wrong with them."""
    header = bytes(to_frames(make_observation())[0])
    return {
        "garbage": [os.urandom(64)],
        "empty": [b""],
        "truncated": [header[: len(header) // 2]],
        "longer": [header + b"\xff\xff"],
        "another version": [b"drl0" + header[4:]],
        "nan": [header.replace(msgspec.msgpack.encode(0.3), msgspec.msgpack.encode(float("nan")))],
        "oversized header": [header + bytes(128 * 1024)],
        "frames": [header, *[b"x"] * 40],
        "tensors": to_frames(make_observation(), [np.zeros((4, 4), np.float32)]),
        "bad text": [header.replace(b"digits-cnn", b"digits-cn\xff")],
    }


@pytest.mark.parametrize("what", sorted(rubbish()))
def test_rubbish_is_counted_and_serving_goes_on(shared: DaemonProcess, peer: Asker, what: str) -> None:
    """Nothing a peer can send ends the daemon or disturbs the next question."""
    before = shared.metric("drlctl_malformed_total")
    peer.send(rubbish()[what])
    until(lambda: shared.metric("drlctl_malformed_total") == before + 1)
    while not isinstance(answer := peer.ask(make_observation(request_id=77)), Decided):
        pass  # a refusal of the rubbish, where its id could be read
    assert answer.request_id == 77
    assert shared.page("/livez")[0] == 200


def test_sighup_loads_the_bundle_again(running: DaemonProcess, client: Asker, bundle_path: Path) -> None:
    """After SIGHUP the bundle that now stands in the folder decides."""
    newer = make_bundle(seed=1, scale=3.0)
    save_bundle(newer, bundle_path)
    running.signal(signal.SIGHUP)
    until(lambda: running.metric('drlctl_bundle_reloads_total{result="ok"}') == 1)
    policy = BundlePolicy(newer)
    for rate in np.geomspace(1e4, 1e7, 20):
        observation = make_observation(uplink__rate_bytes_per_s=float(rate))
        assert client.ask(observation) == Decided(request_id=1, decision=policy.decide(observation))
    assert f'digest="{running.ready["digest"]}"' not in running.page("/metrics")[1]


def damage(bundle_path: Path, how: str) -> None:
    """Spoil the bundle in a folder."""
    manifest, weights = bundle_path / "manifest.json", bundle_path / "weights.safetensors"
    if how == "flipped bit":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif how == "truncated":
        manifest.write_bytes(manifest.read_bytes()[:1000])
    elif how == "gone":
        weights.unlink()
    elif how == "another catalogue":
        save_bundle(make_bundle(cost_model=make_cost_model().restrict(make_cost_model().decisions[:20])), bundle_path)


def test_a_bad_bundle_is_refused_and_the_old_one_serves(running: DaemonProcess, client: Asker, bundle_path: Path) -> None:
    """A reload that fails, for whatever reason, changes nothing but a counter."""
    expected = BundlePolicy(make_bundle()).decide(make_observation())
    for number, how in enumerate(("flipped bit", "truncated", "gone", "another catalogue"), start=1):
        save_bundle(make_bundle(), bundle_path)
        damage(bundle_path, how)
        running.signal(signal.SIGHUP)
        until(lambda wanted=number: running.metric('drlctl_bundle_reloads_total{result="refused"}') == wanted)
        assert client.ask(make_observation(request_id=number)) == Decided(request_id=number, decision=expected)
        assert f'digest="{running.ready["digest"]}"' in running.page("/metrics")[1]
        assert running.page("/readyz")[0] == 200


def test_reloading_under_load_loses_nothing(running: DaemonProcess, client: Asker) -> None:
    """Every question asked while the bundle is being replaced again and again gets its one answer."""
    asked = numbered(make_observation(), 1000)
    answered = []
    for index, observation in enumerate(asked):
        if index % 100 == 0:
            running.signal(signal.SIGHUP)
        client.send(to_frames(observation))
        answered += [message for message in [client.receive_or_none(0.0)] if message is not None]
    while len(answered) < len(asked):
        answered.append(client.receive())
    assert [answer.request_id for answer in answered if isinstance(answer, Decided)] == list(range(1000))
    until(lambda: running.metric('drlctl_bundle_reloads_total{result="ok"}') >= 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_under_load_answers_what_is_queued(running: DaemonProcess, client: Asker, number: signal.Signals) -> None:
    """All that was sent before the signal is answered, and the exit code is 0."""
    count = 800
    client.ask(make_observation())
    for observation in numbered(make_observation(), count):
        client.send(to_frames(observation))
    running.signal(number)
    answers = [client.receive() for _ in range(count)]
    assert sorted(answer.request_id for answer in answers if isinstance(answer, Decided)) == list(range(count))
    assert running.process.wait(ANSWER_LIMIT_S) == 0


def test_it_is_not_ready_while_it_drains(bundle_path: Path) -> None:
    """Readiness drops with SIGTERM while the loop still answers; a second signal ends it at once."""
    with daemon(bundle_path, "--grace", "30") as running, asker(running.address) as client:
        client.ask(make_observation())
        running.signal(signal.SIGTERM)
        code = 200
        while code == 200:
            client.ask(make_observation())  # keeps it from falling quiet
            code = running.page("/readyz")[0]
        assert code == 503
        assert isinstance(client.ask(make_observation()), Decided)
        running.signal(signal.SIGTERM)
        assert running.process.wait(ANSWER_LIMIT_S) == 128 + signal.SIGTERM


def test_the_grace_period_ends_it(bundle_path: Path) -> None:
    """A client that never stops asking cannot keep it alive."""
    with daemon(bundle_path, "--grace", "0.3") as running, asker(running.address) as client:
        client.ask(make_observation())
        running.signal(signal.SIGTERM)
        until(lambda: not client.dealer.send(to_frames(make_observation())) or running.process.poll() is not None)
        assert running.process.wait(ANSWER_LIMIT_S) == 0


def test_it_imports_neither_torch_nor_the_trainer_and_stays_small(shared: DaemonProcess, peer: Asker) -> None:
    """The decision process holds no learning framework and less than 100 MB."""
    for observation in numbered(make_observation(), 200):
        peer.ask(observation)
    process = psutil.Process(shared.process.pid)
    assert process.memory_info().rss < MAX_RESIDENT_BYTES
    mapped = " ".join(region.path for region in process.memory_maps())
    assert not [name for name in ("torch", "onnxruntime", "matplotlib") if f"/{name}/" in mapped]


@pytest.mark.parametrize("module", ["drlctl.daemon", "drlctl.node"])
def test_its_modules_know_no_learning_framework(module: str) -> None:
    """Importing all that the daemon or a node needs loads no learning framework, and nothing that could unpickle a policy."""
    code = f"import sys, {module}; print([m for m in ('torch', 'stable_baselines3', 'cloudpickle', 'gymnasium') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_silent_http_clients_disturb_nobody(shared: DaemonProcess, peer: Asker) -> None:
    """Connections that say nothing neither block the pages nor the decisions."""
    host, port = shared.http.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    try:
        assert shared.page("/livez")[0] == 200
        assert isinstance(peer.ask(make_observation()), Decided)
    finally:
        for connection in silent:
            connection.close()


def test_it_ends_with_its_parent(bundle_path: Path) -> None:
    """A launcher that dies leaves no daemon behind."""
    with daemon(bundle_path, "--exit-with-parent", stdin=subprocess.PIPE) as running:
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert running.process.wait(ANSWER_LIMIT_S) == 0
