"""The base of a knowledge transfer comes to every client once, whoever dies and whatever is lost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from runtime.messages import Contribution, FitJob, Message, Round, RoundRecord, TransferSpec
from tests.runtime.training.protocol.test_rounds import fedavg_by_hand
from tests.runtime.training.protocol.world import BASE, World, flat_world, job

TRANSFER = TransferSpec(frozen=1, checkpoint="somewhere")


def transfer_job(**changes: object) -> FitJob:
    """Like the plain job, with a base."""
    return job(transfer=TRANSFER, **changes)


def extra_bytes(record: RoundRecord, plain: RoundRecord) -> tuple[int, int]:
    """What a round's downward bytes have beyond another's, on the uplinks and on the wan."""
    return record.down_bytes[0] - plain.down_bytes[0], record.down_bytes[1] - plain.down_bytes[1]


def test_the_base_goes_down_once_and_training_is_as_without() -> None:
    """Its bytes are in the first record, for each client on each link; afterwards only weights cross."""
    world = flat_world(transfer_job())
    world.start()
    report = world.run()
    assert report.phase == "done"
    np.testing.assert_allclose([weights for _, weights in world.trajectory], fedavg_by_hand(3, 1, 2), rtol=1e-5, atol=1e-6)
    first, second, third = report.records
    assert [record.clients for record in report.records] == 3 * [("device-0", "device-1")]
    assert extra_bytes(third, second) == (0, 0)
    for extra in extra_bytes(first, second):
        assert 2 * BASE.nbytes <= extra < 2 * BASE.nbytes + 200
    assert [record.base_s for record in report.records] == [1.5, 0.0, 0.0]


def test_a_client_that_has_lost_the_base_is_given_it_again() -> None:
    """Restarted with nothing, it says so, or declines the round that came without; it takes part in the last one."""
    world = flat_world(transfer_job(rounds=8, round_deadline_s=1.0))
    world.start()
    world.at(0.3, lambda: world.kill("device-1"))
    world.at(2.5, lambda: world.restart("device-1"))
    world.at(2.6, lambda: world.start("device-1"))
    report = world.run()
    assert report.phase == "done"
    assert report.records[-1].clients == ("device-0", "device-1")
    again = [record for record in report.records[1:] if record.down_bytes[1] > BASE.nbytes]
    assert 1 <= len(again) <= 2


def test_a_lost_first_round_costs_no_more_than_another_copy() -> None:
    """A client joins again, and is handed the round and the base once more."""
    lost: list[Message] = []

    def lose(source: str, target: str, message: Message) -> bool:
        if isinstance(message, Round) and target == "device-1" and not lost:
            lost.append(message)
            return True
        return False

    world = flat_world(transfer_job())
    world.lose = lose
    world.start()
    report = world.run()
    assert lost
    assert report.records[-1].clients == ("device-0", "device-1")
    assert report.records[-1].down_bytes[1] < BASE.nbytes


def test_clients_that_kept_the_base_are_not_sent_it_after_the_root_was_restarted() -> None:
    """They say in their Join that they hold it."""
    world = flat_world(transfer_job(rounds=60))
    world.start()
    world.at(1.0, lambda: world.kill("cloud"))
    world.at(2.0, lambda: world.restart("cloud"))
    world.at(2.0, lambda: world.start("cloud"))
    report = world.run(until_s=6.0)
    assert report.records
    assert all(record.down_bytes[1] < BASE.nbytes for record in report.records)


def test_an_edge_is_sent_the_base_once_for_all_its_devices() -> None:
    """Over the wan one copy for each edge, on the uplinks one for each device."""
    given = transfer_job(architecture="hierarchical", edge_rounds=2, data=msgspec.structs.replace(job().data, num_clients=4))
    below = {"device-0": "edge-0", "device-1": "edge-1", "device-2": "edge-0", "device-3": "edge-1"}
    world = World(given, {"cloud": "", "edge-0": "cloud", "edge-1": "cloud", **below})
    world.start()
    report = world.run()
    assert report.phase == "done"
    uplinks, wan = extra_bytes(report.records[0], report.records[1])
    assert 4 * BASE.nbytes <= uplinks < 5 * BASE.nbytes
    assert 2 * BASE.nbytes <= wan < 3 * BASE.nbytes
    assert extra_bytes(report.records[2], report.records[1]) == (0, 0)


def test_an_edge_that_was_restarted_is_given_the_base_again() -> None:
    """It declines what it cannot hand out, and is back in a later round."""
    given = transfer_job(architecture="hierarchical", rounds=8, round_deadline_s=1.0)
    world = flat_world(given)
    world.start()
    world.at(0.3, lambda: world.restart("edge-0"))
    world.at(0.4, lambda: world.start("edge-0"))
    world.job = given
    report = world.run()
    assert report.phase == "done"
    assert all(record.clients == ("edge-0",) for record in report.records)


def test_updates_are_as_large_as_without_a_base() -> None:
    """Nothing of the base goes up."""
    sizes = []
    for given in (job(), transfer_job()):
        world = flat_world(given)
        sent: list[Message] = []
        world.lose = lambda source, target, message, sent=sent: sent.append(message) if isinstance(message, Contribution) else None  # type: ignore[misc]
        world.start()
        sizes.append([record.up_bytes for record in world.run().records])
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("architecture", ["centralised", "gossip", "split"])
def test_where_transfer_has_no_meaning_it_is_refused_with_the_reason(architecture: str) -> None:
    """Before a node starts."""
    with pytest.raises(ValueError, match="no knowledge transfer: "):
        FitJob(architecture=architecture, cut=1, transfer=TRANSFER)  # type: ignore[arg-type]


def test_a_transfer_says_where_its_base_comes_from_and_what_is_taken_over() -> None:
    """Else it is refused, in the words of the settings."""
    with pytest.raises(ValueError, match="root_fraction > 0"):
        FitJob(transfer=TransferSpec())
    with pytest.raises(ValueError, match="takes something over"):
        TransferSpec(frozen=0)
    with pytest.raises(ValueError, match="not both"):
        TransferSpec(checkpoint="x", data=job().data)
