"""Secure aggregation by messages: the sum is right, single updates stay hidden, and dropped clients are survived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="secure aggregation needs the extra drlctl[secure]")

from runtime.codecs.parcel import Parcel
from runtime.messages import (
    Contribution,
    DataSpec,
    FitJob,
    FitReport,
    KeyBook,
    KeyShares,
    Masking,
    MaskKeys,
    Message,
    PrivacyConfig,
    Revealed,
    SealedShares,
    Survivors,
    TauSpec,
    TransferSpec,
)
from runtime.training.masker import LARGEST, secure_config
from runtime.training.protocol.ports import Sent
from tests.runtime.training.protocol.test_rounds import fedavg_by_hand
from tests.runtime.training.protocol.world import World, examples, flat_world, job

UP = (MaskKeys, KeyShares, Contribution, Revealed)
DOWN = (KeyBook, SealedShares, Survivors)


def masked_job(num_clients: int = 4, **changes: object) -> FitJob:
    """Like the plain job, masked; steps of the exchange wait half a second."""
    base = job(data=msgspec.structs.replace(job().data, num_clients=num_clients), round_deadline_s=3.0, step_deadline_s=0.5)
    return msgspec.structs.replace(base, secure_aggregation=True, **changes)


def play(given: FitJob, lose: Callable[[str, str, Message], bool] | None = None, prepare: Callable[[World], None] | None = None) -> World:
    """The job to its end."""
    world = flat_world(given)
    world.lose = lose or world.lose
    if prepare is not None:
        prepare(world)
    world.start()
    world.run()
    return world


def by_hand(report: FitReport) -> np.ndarray:
    """Weights after the rounds of a report, of whose clients we know."""
    weights = np.zeros(3)
    for record in report.records:
        clients = [int(name.removeprefix("device-")) for name in record.clients]
        share = np.array([examples(client) for client in clients], dtype=np.float64)
        local = np.stack([np.array([client, -client, 1.0]) + 0.5 * (weights - np.array([client, -client, 1.0])) for client in clients])
        weights = share / share.sum() @ local
    return weights


def test_masked_rounds_are_fedavg_to_the_fixed_points_precision() -> None:
    """The same weights, round by round, as without masks; the record says what the masks cost."""
    world = play(masked_job())
    report = world.report()
    assert report.phase == "done"
    expected = fedavg_by_hand(3, 1, 4)
    step = 2.0 ** -secure_config(4, 3, 3).fraction_bits
    np.testing.assert_allclose([weights for _, weights in world.trajectory], expected, atol=10 * step, rtol=2e-7)
    plain = flat_world(msgspec.structs.replace(masked_job(), secure_aggregation=False))
    plain.start()
    for record, without in zip(report.records, plain.run().records, strict=True):
        assert (record.clients, record.missing, record.refused) == (without.clients, (), {})
        assert record.masking is not None
        assert min(record.masking.up_bytes, record.masking.down_bytes) > 4 * 100
        assert record.up_bytes[0] == record.up_bytes[1] > without.up_bytes[0] + record.masking.up_bytes - 100
        assert record.masking.exchange_s == pytest.approx(8 * 0.01 + 0.01, abs=0.02)  # four times over two links, twice a little work
        assert record.masking.reveal_s == pytest.approx(4 * 0.01, abs=0.01)
        assert without.masking is None


def test_with_its_root_at_the_edge_nothing_crosses_the_wan() -> None:
    """Masks' messages neither; the uplinks carry them as ever."""
    (record,) = play(masked_job(rounds=1, root="edge")).report().records
    assert record.masking is not None
    assert (record.up_bytes[1], record.down_bytes[1]) == (0, 0)
    assert min(record.up_bytes[0] - record.masking.up_bytes, record.down_bytes[0] - record.masking.down_bytes) > 4 * 12


def test_the_root_never_holds_a_plain_update() -> None:
    """What it read of each client differs from what the client computed in nearly every bit's place, and looks uniform."""
    world = play(masked_job(rounds=150))
    plain = {(number, name): update for number, name, update in world.updates}
    read = [decoded.update for decoded in world.nodes["cloud"].read if decoded.update is not None]
    assert len(read) == 4 * 150
    code = secure_config(4, 3, 3).fixed_point()
    bits = []
    for update in read:
        own = code.quantise(plain[update.header.round, update.header.client])
        assert (update.delta != own).all()
        bits.append(np.unpackbits((update.delta - own).view(np.uint8)))
    ones = np.stack(bits).mean()
    assert ones == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(np.stack(bits).size))


@pytest.mark.parametrize("step", UP + DOWN)
def test_a_client_that_is_lost_at_any_step_is_survived(step: type[Any]) -> None:
    """Its message of one kind never arrives: the others' sum is right, and only up to its masked update it is missing."""
    world = play(masked_job(), lambda source, target, message: isinstance(message, step) and "device-2" in (source, target))
    report = world.report()
    assert report.phase == "done"
    counted = ("device-0", "device-1", "device-2", "device-3") if step in {Revealed, Survivors} else ("device-0", "device-1", "device-3")
    assert [record.clients for record in report.records] == 3 * [counted]
    np.testing.assert_allclose(world.trajectory[-1][1], by_hand(report), atol=1e-5)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (MaskKeys, "too_few_keys"),
        (KeyShares, "too_few_shares"),
        (Contribution, "no quorum by the deadline"),
        (Revealed, "too_few_revealed"),
    ],
)
def test_below_the_threshold_the_round_is_lost_for_one_reason(step: type[Any], reason: str) -> None:
    """Two of four: nothing is aggregated."""
    lost = {"device-1", "device-2"}
    world = play(masked_job(max_failed_rounds=2), lambda source, target, message: isinstance(message, step) and source in lost)
    report = world.report()
    assert (report.phase, report.round, world.trajectory) == ("failed", 0, [])
    assert reason in report.message


@pytest.mark.parametrize("step", [MaskKeys, KeyShares, Contribution, Revealed])
def test_the_sum_of_two_is_nobodys_to_know(step: type[Any]) -> None:
    """Either of two could take its own update from it: of three drawn clients all have to answer, though half were a quorum."""
    world = play(
        masked_job(3, quorum_fraction=0.5, max_failed_rounds=1),
        lambda source, target, message: isinstance(message, step) and source == "device-2",
    )
    assert (world.report().phase, world.trajectory) == ("failed", [])


def test_a_client_masks_for_no_threshold_below_three() -> None:
    """Whatever its root makes of the round."""
    with pytest.raises(ValueError, match="among 3 clients at least"):
        Masking(number=1, num_clients=3, threshold=2, weight=1.0)


def test_messages_that_come_twice_or_late_change_nothing() -> None:
    """Everything is delivered again, at once and two seconds later: the same weights, and no round more or less."""
    world = flat_world(masked_job())
    deliver = world.deliver

    def thrice(source: str, target: str, side: str, frames: list[bytes | memoryview]) -> None:
        for delay_s in (0.0, 0.001, 2.0):
            world.at(world.now_s + delay_s, lambda: deliver(source, target, side, frames))

    world.deliver = thrice  # type: ignore[method-assign]
    world.start()
    report = world.run()
    assert (report.phase, report.round) == ("done", 3)
    np.testing.assert_allclose(world.trajectory[-1][1], fedavg_by_hand(3, 1, 4)[-1], atol=1e-5)
    assert len(world.trajectory) == 3


@pytest.mark.parametrize("at_s", [0.035, 0.075, 0.11, 0.2])
def test_a_client_killed_in_a_round_and_started_again_takes_part_in_the_next(at_s: float) -> None:
    """During keys, shares, local steps: its secrets are gone, the round is the others', and it is back later."""

    def prepare(world: World) -> None:
        world.at(at_s, lambda: world.kill("device-3"))
        world.at(at_s + 0.3, lambda: world.restart("device-3"))
        world.at(at_s + 0.31, lambda: world.start("device-3"))

    world = play(masked_job(rounds=12), prepare=prepare)
    report = world.report()
    assert (report.phase, report.round) == ("done", 12)
    assert report.records[-1].clients == ("device-0", "device-1", "device-2", "device-3")
    np.testing.assert_allclose(world.trajectory[-1][1], by_hand(report), atol=1e-4)


def test_a_forged_share_loses_the_round_and_nothing_else() -> None:
    """A survivor reveals other values once: their sum is not used, the round is tried again and is right."""
    world = flat_world(masked_job())
    node, forged = world.nodes["device-0"], list[Message]()
    real = node.up

    def up(transfer_id: int, message: Message, parcel: Parcel, at_s: float) -> Sent | None:
        if isinstance(message, Revealed) and not forged:
            forged.append(message)
            message = msgspec.structs.replace(message, own_seeds=dict.fromkeys(message.own_seeds, bytes(66)))
        return real(transfer_id, message, parcel, at_s)

    node.up = up  # type: ignore[method-assign]
    world.start()
    report = world.run()
    assert forged
    assert (report.phase, report.round) == ("done", 3)
    np.testing.assert_allclose(world.trajectory[-1][1], fedavg_by_hand(3, 1, 4)[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "hierarchical"}, "has none"),
        ({"architecture": "gossip"}, "has none"),
        ({"aggregator": "median"}, "compares single updates"),
        ({"compressor": "qsgd8"}, "identity"),
        ({"tau": TauSpec(rule="adaptive")}, "adaptive"),
        ({"privacy": PrivacyConfig(max_norm=1.0, noise_multiplier=1.0, sampling_fraction=1.0)}, "privacy"),
        ({"data": DataSpec(num_clients=2)}, "hides its parts among 3..256"),
        ({"sample_fraction": 0.25}, "hides its parts among 3..256"),
        ({"data": DataSpec(num_clients=300)}, "hides its parts among 3..256"),
    ],
)
def test_what_needs_single_updates_is_refused(changes: dict[str, Any], why: str) -> None:
    """With the reason."""
    with pytest.raises(ValueError, match=why):
        FitJob(**{"secure_aggregation": True, **changes})


def test_masks_and_a_base_go_together() -> None:
    """What is frozen is not masked, because it is not sent."""
    report = play(masked_job(transfer=TransferSpec(frozen=1, checkpoint="somewhere"))).report()
    assert (report.phase, report.records[-1].clients) == ("done", ("device-0", "device-1", "device-2", "device-3"))


@pytest.mark.parametrize("num_clients", [3, 8, 500])
def test_the_fixed_point_has_room_for_all_clients(num_clients: int) -> None:
    """Nothing below `LARGEST` is clipped."""
    assert secure_config(num_clients, num_clients // 2 + 1, 1).fixed_point().bound() >= LARGEST * 0.999
