"""Federated and hierarchical training as machines, against the same thing computed in a few lines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.codec import seal
from runtime.codecs.parcel import Parcel
from runtime.messages import (
    Contribution,
    DataSpec,
    Declined,
    Failure,
    FitJob,
    FitQuery,
    FitReady,
    FitStart,
    Join,
    LocalSpec,
    Message,
    PrivacyConfig,
    Round,
    SetTau,
    TauSpec,
    UpdateHeader,
)
from runtime.training.privacy import account
from runtime.training.protocol.tasks import Aggregate, Aggregated, TrainerResult, TrainerTask
from runtime.training.server import Server
from runtime.training.tau import LossSurface
from runtime.training.update import Update
from tests.runtime.training.protocol.world import SESSION, STEP_S, World, examples, flat_world, job, loss_on_test_split, optimum

EVERYBODY = PrivacyConfig(max_norm=0.1, noise_multiplier=1.0, sampling_fraction=1.0)


def fedavg_by_hand(num_rounds: int, tau: int, clients: int, rate: float = 0.5) -> list[np.ndarray]:
    """Weights after each round: the clients' local results weighted by their examples."""
    weights, share = np.zeros(3), np.array([examples(client) for client in range(clients)], dtype=np.float64)
    trajectory = []
    for _ in range(num_rounds):
        local = [optimum(client) + (1 - rate) ** tau * (weights - optimum(client)) for client in range(clients)]
        weights = share / share.sum() @ np.stack(local)
        trajectory.append(weights)
    return trajectory


@pytest.mark.parametrize("tau", [1, 4])
def test_federated_rounds_are_fedavg_by_hand(tau: int) -> None:
    """Every round's weights, and a record for each."""
    world = flat_world(job(tau=TauSpec(tau=tau), rounds=4))
    world.start()
    report = world.run()
    assert report.phase == "done"
    np.testing.assert_allclose([weights for _, weights in world.trajectory], fedavg_by_hand(4, tau, 2), rtol=1e-5, atol=1e-6)
    assert [record.round for record in report.records] == [1, 2, 3, 4]
    for record in report.records:
        assert record.clients == ("device-0", "device-1")
        assert (record.missing, record.refused) == ((), {})
        assert record.compute_s == pytest.approx(tau * STEP_S)
        assert record.transfer_s == pytest.approx(4 * 0.01, abs=1e-6)  # down and up over two links
        assert record.up_bytes[0] == record.up_bytes[1] > 2 * 12
        assert record.device_joules == pytest.approx(2 * tau * STEP_S)  # the world's joules are seconds


def test_one_client_and_one_step_are_plain_descent() -> None:
    """w <- w - lr grad, step by step."""
    world = flat_world(job(data=msgspec.structs.replace(job().data, num_clients=1), rounds=5))
    world.start()
    world.run()
    weights, expected = np.zeros(3), []
    for _ in range(5):
        weights = weights - 0.5 * (weights - optimum(0))
        expected.append(weights)
    np.testing.assert_allclose([weights for _, weights in world.trajectory], expected, rtol=1e-6)


def test_hierarchical_rounds_are_hierfavg_by_hand() -> None:
    """Two edges of two devices, two edge rounds per cloud round."""
    given = job(architecture="hierarchical", edge_rounds=2, rounds=2, data=msgspec.structs.replace(job().data, num_clients=4))
    below = {"device-0": "edge-0", "device-1": "edge-1", "device-2": "edge-0", "device-3": "edge-1"}
    world = World(given, {"cloud": "", "edge-0": "cloud", "edge-1": "cloud", **below})
    world.start()
    report = world.run()
    assert report.phase == "done"
    weights = np.zeros(3)
    for _ in range(2):
        edges = []
        for members in ((0, 2), (1, 3)):
            edge, share = weights, np.array([examples(client) for client in members], dtype=np.float64)
            for _ in range(2):
                edge = share / share.sum() @ np.stack([optimum(client) + 0.5 * (edge - optimum(client)) for client in members])
            edges.append((share.sum(), edge))
        weights = sum(size * edge for size, edge in edges) / sum(size for size, _ in edges)
    np.testing.assert_allclose([kept for name, kept in world.trajectory if name == "cloud"][-1], weights, rtol=1e-5)
    record = report.records[-1]
    assert record.clients == ("edge-0", "edge-1")
    assert record.up_bytes[0] > 1.8 * record.up_bytes[1] > 0  # four devices twice, against two edges once


def test_a_silent_device_does_not_cost_its_edge_the_round() -> None:
    """The edge divides what the cloud gives it: two edge rounds without the device end before the cloud's deadline."""
    given = job(
        architecture="hierarchical", edge_rounds=2, rounds=3, round_deadline_s=6.0, data=msgspec.structs.replace(job().data, num_clients=4)
    )
    below = {"device-0": "edge-0", "device-1": "edge-1", "device-2": "edge-0", "device-3": "edge-1"}
    world = World(given, {"cloud": "", "edge-0": "cloud", "edge-1": "cloud", **below})
    world.lose = lambda source, target, message: isinstance(message, Contribution) and source == "device-0"
    world.start()
    report = world.run()
    assert report.phase == "done"
    assert [record.clients for record in report.records] == 3 * [("edge-0", "edge-1")]
    assert all(record.at_s < 6.0 * record.round for record in report.records)


def test_a_client_stops_when_nobody_waits_for_it_any_more() -> None:
    """Ten steps of 0.1 s, and 0.5 s for the round: no update is made only to be refused."""
    world = flat_world(job(tau=TauSpec(tau=10), round_deadline_s=0.5, max_failed_rounds=1))
    sent: list[Message] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Contribution):
            sent.append(message)
        return False

    world.lose = watch
    world.start()
    assert world.run().phase == "failed"
    assert sent == []
    (number,) = {world.nodes[name].cancelled_round for name in ("device-0", "device-1")}
    assert number >= 1


@pytest.mark.parametrize("on_its_way", [False, True])
def test_an_update_that_an_edge_took_with_it_is_sent_again(on_its_way: bool) -> None:
    """The edge dies before the updates are sent, or with them: it comes back, and no round waits for its deadline."""
    world = flat_world(job(rounds=3, round_deadline_s=50.0))
    lost: list[Message] = []

    def lose(source: str, target: str, message: Message) -> bool:
        if on_its_way and isinstance(message, Contribution) and target == "edge-0" and len(lost) < 2:
            lost.append(message)
            world.nodes[source].part.on_upstream_lost(world.now_s)
            return True
        return False

    world.lose = lose
    world.start()
    if not on_its_way:
        world.at(0.1, lambda: world.kill("edge-0"))
        world.at(0.4, lambda: world.restart("edge-0"))
        world.at(0.5, lambda: world.start("edge-0"))
    report = world.run(until_s=40.0)
    assert report.phase == "done"
    assert all(record.clients == ("device-0", "device-1") for record in report.records)
    np.testing.assert_allclose([weights for _, weights in world.trajectory], fedavg_by_hand(3, 1, 2), rtol=1e-5, atol=1e-6)


def test_a_dead_client_is_left_out_and_may_come_back() -> None:
    """It is missing in the rounds of its absence; restarted and told its role, it takes part again."""
    world = flat_world(job(rounds=6, round_deadline_s=1.0))
    world.start()
    world.at(0.3, lambda: world.kill("device-1"))
    world.at(2.5, lambda: world.restart("device-1"))
    world.at(2.6, lambda: world.start("device-1"))
    report = world.run()
    assert report.phase == "done"
    took_part = ["device-1" in record.clients for record in report.records]
    assert took_part[0]
    assert not all(took_part)
    assert took_part[-1]
    assert all(("device-1" in record.missing) is not took for record, took in zip(report.records, took_part, strict=True))


def test_a_round_without_a_quorum_is_tried_again_and_then_the_job_fails() -> None:
    """Nothing is aggregated of too few; the reason is told."""
    world = flat_world(job(quorum_fraction=1.0, round_deadline_s=1.0, max_failed_rounds=2))
    world.start()
    world.at(0.01, lambda: None)
    world.lose = lambda source, target, message: isinstance(message, Contribution) and message.header.client == "device-1"
    report = world.run()
    assert (report.phase, report.round) == ("failed", 0)
    assert "no quorum" in report.message
    assert world.trajectory == []


def test_nobody_waits_forever_for_those_who_never_join() -> None:
    """With a quorum the job begins at the deadline; without, it fails and names who was there."""
    world = flat_world(job(rounds=1))
    world.lose = lambda source, target, message: isinstance(message, Join) and message.client == "device-1"
    world.start()
    report = world.run()
    assert (report.phase, report.records[0].clients) == ("done", ("device-0",))
    alone = flat_world(job(quorum_fraction=1.0))
    alone.lose = world.lose
    alone.start()
    report = alone.run()
    assert report.phase == "failed"
    assert "only device-0 joined" in report.message


def test_lost_rounds_and_late_updates_are_never_applied_twice() -> None:
    """Every update is lost once or comes twice: each round's weights are those of one update per client at most."""
    world = flat_world(job(rounds=5, round_deadline_s=1.0, quorum_fraction=0.5))
    seen: dict[tuple[str, int], int] = {}

    def lose(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Contribution) and target == "cloud":
            key = (message.header.client, message.header.round)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] == 1 and message.header.round % 2 == 0:  # comes twice
                again = message
                world.deliver(source, target, "down", _frames(world, again, key))
            return message.header.round % 3 == 0 and message.header.client == "device-0"
        return False

    world.lose = lose
    world.start()
    report = world.run()
    assert report.phase == "done"
    for record in report.records:
        assert len(set(record.clients)) == len(record.clients)
    assert any(record.missing for record in report.records)


def _frames(world: World, message: Contribution, key: tuple[str, int]) -> list[bytes | memoryview]:
    """The same contribution again, with an update of zeros that must not count."""
    from runtime.codec import seal

    exchange = world.nodes[key[0]].exchange
    assert exchange is not None
    written = exchange.write(np.zeros(3, dtype=np.float32), None, number=0, sent_round=-1)
    return seal(msgspec.structs.replace(message, parameters=written.parameters), written.parcel)


@pytest.mark.parametrize("bad", [np.array([np.nan, 0, 0], dtype=np.float32), np.zeros(5, dtype=np.float32), np.zeros(3)])
def test_bad_updates_are_refused_and_counted(bad: np.ndarray) -> None:
    """NaN, another shape, another dtype: the round goes on with the others."""
    from runtime.codec import seal
    from runtime.codecs.parcel import pack

    world = flat_world(job(rounds=1))
    spoiled: list[int] = []

    def spoil(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Contribution) and message.header.client == "device-1" and target == "cloud" and not spoiled:
            spoiled.append(1)
            raw = pack([np.frombuffer(bad.tobytes(), dtype=np.uint8)])
            world.deliver(source, target, "down", seal(message, raw))
            return True
        return False

    world.lose = spoil
    world.start()
    report = world.run()
    assert report.phase == "done"
    assert report.records[0].clients == ("device-0",)
    assert sum(report.records[0].refused.values()) == 1


def test_a_root_goes_on_from_its_last_round(tmp_path: Path) -> None:
    """Killed and started again it has the same records and weights, and ends where one that was never killed ends."""
    given = job(rounds=6, folder=str(tmp_path))
    world = flat_world(given)
    world.start()
    world.at(0.7, lambda: world.kill("cloud"))
    world.at(1.0, lambda: world.restart("cloud"))
    world.at(1.1, lambda: world.start("cloud"))
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert [record.round for record in report.records] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(world.trajectory[-1][1], fedavg_by_hand(6, 1, 2)[-1], rtol=1e-5)


@pytest.mark.parametrize("began_s", [5000.0, 5003.7])
def test_the_seed_says_who_is_drawn(began_s: float, tmp_path: Path) -> None:
    """Not the clock of the host, which numbers the attempts; nor a restart; and a round that failed is tried with others."""
    given = job(data=msgspec.structs.replace(job().data, num_clients=6), rounds=8, sample_fraction=0.5)

    def drawn(world: World) -> list[tuple[str, ...]]:
        world.start()
        return [record.clients for record in world.run(until_s=world.now_s + 100.0).records]

    expected = drawn(flat_world(given))
    assert len(set(expected)) > 1
    later = flat_world(given)
    later.now_s = began_s
    assert drawn(later) == expected
    killed = flat_world(msgspec.structs.replace(given, folder=str(tmp_path)))
    for at_s, what in ((0.5, killed.kill), (0.6, killed.restart), (0.6, killed.start)):
        killed.at(at_s, lambda what=what: what("cloud"))
    assert drawn(killed) == expected
    assert drawn(flat_world(msgspec.structs.replace(given, seed=1))) != expected


def test_a_round_that_failed_is_tried_with_others() -> None:
    """Of four clients two are drawn, and one never answers: the draw that it is in is not drawn for ever."""
    given = job(data=msgspec.structs.replace(job().data, num_clients=4), rounds=5, sample_fraction=0.5, quorum_fraction=1.0)
    world = flat_world(msgspec.structs.replace(given, max_failed_rounds=20))
    world.lose = lambda source, target, message: isinstance(message, Contribution) and source == "device-3"
    world.start()
    report = world.run(until_s=300.0)
    assert report.phase == "done"
    assert all("device-3" not in record.clients for record in report.records)


def test_of_a_diverged_round_only_what_is_kept_is_told(tmp_path: Path) -> None:
    """Its surface is none, its loss on the test split is that of the weights before it, and the root can go on from its folder."""
    world = flat_world(job(rounds=3, folder=str(tmp_path)))
    root, aggregated = world.nodes["cloud"], []
    compute = root.compute

    def diverge(task: TrainerTask) -> TrainerResult | None:
        done = compute(task)
        if isinstance(done, Aggregated):
            aggregated.append(done)
            nan = LossSurface(lipschitz=np.nan, smoothness=1.0, divergence=1.0)
            return msgspec.structs.replace(done, surface=nan) if len(aggregated) == 2 else done
        return done

    root.compute = diverge  # type: ignore[method-assign]
    world.start()
    records = world.run().records
    first, second, third = [loss_on_test_split(np.asarray(done.weights)) for done in aggregated]
    assert [record.test_loss for record in records] == pytest.approx([first, first, third])
    assert first != second == third  # the third is the second round once more
    assert [record.surface for record in records] == [None, None, None]
    world.restart("cloud")
    world.start("cloud")
    assert world.run(until_s=200.0).records == records


def test_a_finished_job_stays_finished(tmp_path: Path) -> None:
    """Started again it has nothing to do."""
    given = job(rounds=2, folder=str(tmp_path))
    first = flat_world(given)
    first.start()
    first.run()
    again = flat_world(given)
    again.start()
    assert again.run().phase == "done"
    assert again.trajectory == []


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    """With one clear reason, and the node free for another job."""
    from safetensors.numpy import save

    given = job(folder=str(tmp_path))
    world = flat_world(given)
    world.start()
    world.run()
    (weights,) = (tmp_path / "cloud").glob("*.safetensors")
    weights.write_bytes(save({"weights": np.zeros(7, dtype=np.float32), "server": np.zeros(0, dtype=np.uint8)}))
    node = flat_world(given).nodes["cloud"]
    assert node.server is None
    from runtime.errors import InvalidCheckpoint
    from runtime.training.server import Server

    with pytest.raises(InvalidCheckpoint, match="no state of job"):
        Server(given, 3).load(tmp_path / "cloud")


def test_a_tau_is_taken_from_whoever_decides() -> None:
    """`decided`: the next round takes it from a session; `fixed` does not listen."""
    for rule, expected in (("decided", 7), ("fixed", 2)):
        world = flat_world(job(rounds=3, tau=TauSpec(rule=rule, tau=2)))
        world.start()
        world.at(0.15, lambda world=world: world.deliver("session", "cloud", "down", seal(SetTau(job="j", tau=7), Parcel())))
        assert world.run().records[-1].tau == expected


def test_privacy_is_accounted_for() -> None:
    """Epsilon grows from round to round, and nobody's update counts for more than the bound."""
    given = job(privacy=EVERYBODY, rounds=3)
    world = flat_world(given)
    world.start()
    spent = [record.epsilon for record in world.run().records]
    assert spent == [account(EVERYBODY, {1.0: number}).epsilon for number in (1, 2, 3)]


def test_what_is_accounted_is_the_share_that_was_drawn() -> None:
    """A tenth of four clients is one of them, a quarter; where two of the four have come it is half."""
    tenth = msgspec.structs.replace(EVERYBODY, sampling_fraction=0.1)
    for absent, share in (((), 0.25), (("device-2", "device-3"), 0.5)):
        world = flat_world(job(data=DataSpec(num_clients=4), privacy=tenth, sample_fraction=0.1, rounds=2))
        for name in absent:
            world.kill(name)
        world.start()
        spent = [record.epsilon for record in world.run().records]
        assert spent == [account(tenth, {share: number}).epsilon for number in (1, 2)]


def test_who_is_drawn_under_privacy_is_not_told_by_the_seed() -> None:
    """Half of eight, six rounds: the same job draws others the second time; by chance it would draw the same once in 1e11."""
    half = msgspec.structs.replace(EVERYBODY, sampling_fraction=0.5)

    def drawn(**changes: object) -> list[tuple[str, ...]]:
        world = flat_world(job(data=DataSpec(num_clients=8), sample_fraction=0.5, rounds=6, **changes))
        world.start()
        return [record.clients for record in world.run(until_s=5.0).records]

    assert drawn() == drawn()
    assert drawn(privacy=half) != drawn(privacy=half)


def test_a_node_takes_one_job_at_a_time() -> None:
    """The same job again is answered as before; another is refused until the first is stopped."""
    world = flat_world(job())
    world.start()
    world.run(until_s=0.05)
    world.start("cloud")
    world.run(until_s=0.1)
    assert [type(message) for name, message in world.inbox if name == "cloud"] == [FitReady, FitReady]
    from runtime.codec import seal
    from runtime.codecs.parcel import Parcel

    other = FitStart(request_id=9, job=job(name="other"), role="root", clients=("a",))
    for message in (other, FitQuery(request_id=10, job="other")):
        world.deliver(SESSION.decode(), "cloud", "down", seal(message, Parcel()))
    world.run(until_s=0.2)
    refusals = [message for name, message in world.inbox if isinstance(message, Failure)]
    assert [refusal.request_id for refusal in refusals] == [9, 10]
    assert "busy with job 'j'" in refusals[0].message


def test_a_client_that_cannot_train_says_so() -> None:
    """The round does not wait for it until the deadline."""
    world = flat_world(job(rounds=1, round_deadline_s=50.0))
    declined: list[Message] = []

    def decline(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-1" and not declined:
            from runtime.codec import seal
            from runtime.codecs.parcel import Parcel

            declined.append(message)
            answer = Declined(job="j", client="device-1", round=message.round, message="out of memory")
            world.deliver("device-1", "edge-0", "down", seal(answer, Parcel()))
            return True
        return False

    world.lose = decline
    world.start()
    report = world.run(until_s=10.0)
    assert (report.phase, report.records[0].missing) == ("done", ("device-1",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"privacy": PrivacyConfig(max_norm=1.0, noise_multiplier=1.0, sampling_fraction=0.1)}, "give both the same value"),
        ({"privacy": EVERYBODY, "aggregator": "krum"}, "use `fedavg`, or leave privacy out"),
        ({"privacy": EVERYBODY, "aggregator": "fedadam"}, "use `fedavg`, or leave privacy out"),
        ({"privacy": EVERYBODY, "tau": TauSpec(rule="adaptive")}, "neither clipped nor given noise"),
        ({"architecture": "hierarchical", "tau": TauSpec(rule="adaptive")}, "the root sees edges and no client"),
        ({"architecture": "gossip", "compressor": "qsgd8"}, "no updates come to an aggregator"),
        ({"architecture": "hierarchical", "compressor": "dgc"}, "devices and edges would each apply it"),
        ({"local": LocalSpec(momentum=0.9), "compressor": "dgc+qsgd8"}, "set local.momentum to 0"),
    ],
)
def test_what_would_not_be_done_is_refused(changes: dict[str, object], reason: str) -> None:
    """A promise that is not the draw's, a tau that nothing is measured for, a compressor that nobody would use."""
    with pytest.raises(ValueError, match=reason):
        FitJob(**changes)  # type: ignore[arg-type]


def test_edges_keep_no_server_momentum() -> None:
    """They begin every cloud round from the cloud's weights: what they remember of others' rounds would push them astray."""
    task = Aggregate(job="j", weights=np.zeros(3, dtype=np.float32), updates=(_update(1.0),))
    edge, root = (Server(job(aggregator="fedavgm"), 3, role) for role in ("aggregator", "root"))
    edge_first, edge_second = (edge.combine(task).weights for _ in range(2))
    root_first, root_second = (root.combine(task).weights for _ in range(2))
    np.testing.assert_array_equal(edge_first, edge_second)
    assert np.abs(root_second).sum() > np.abs(root_first).sum()


def _update(value: float) -> Update:
    return Update(header=UpdateHeader(client="a", round=0, num_examples=1), delta=np.full(3, value, dtype=np.float32))


# ---------------------------------------------------------------- tau from outside

DECIDED = TauSpec(rule="decided", tau=2, max_tau=8)


def decide(world: World, taus: dict[int, int]) -> None:
    """While device-0 works on its n-th round, one of its requests is decided with taus[n]."""
    seen: list[int] = []

    def watch(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-0" and message.round not in seen:
            seen.append(message.round)
            if len(seen) in taus:
                part, tau = world.nodes[target].part, taus[len(seen)]
                world.at(world.now_s + STEP_S / 2, lambda: world.perform(world.nodes[target], part.set_tau(tau, world.now_s)))
        return False

    world.lose = watch


@pytest.mark.parametrize("architecture", ["federated", "hierarchical"])
def test_a_device_s_decision_sets_the_tau_of_the_rounds_to_come(architecture: str) -> None:
    """It begins with the job's own, what a device was told reaches the root over the edge, and stays until something else is said."""
    world = flat_world(job(architecture=architecture, tau=DECIDED, rounds=5))
    decide(world, {1: 5, 3: 100})
    world.start()
    report = world.run()
    taus = [record.tau for record in report.records]
    assert taus == [2, 5, 5, 8, 8]  # no more than the job allows
    assert [record.compute_s for record in report.records] == pytest.approx([tau * STEP_S for tau in taus])
    assert report.tau == 8


def test_tau_is_the_job_s_own_where_nobody_may_decide_it() -> None:
    """Under another rule nothing is even sent."""
    world = flat_world(job(tau=TauSpec(tau=2), rounds=3))
    decide(world, {1: 5})
    world.start()
    assert [record.tau for record in world.run().records] == [2, 2, 2]


def test_a_restarted_root_goes_on_with_the_tau_that_was_decided(tmp_path: Path) -> None:
    """It is on disk with the weights."""
    world = flat_world(job(tau=DECIDED, rounds=6, folder=str(tmp_path)))
    decide(world, {1: 5})
    world.start()
    world.run(until_s=1.6)
    assert 2 <= len(world.report().records) < 6
    world.restart("cloud")
    world.start("cloud")
    report = world.run()
    assert report.phase == "done"
    assert [record.tau for record in report.records] == [2, 5, 5, 5, 5, 5]
