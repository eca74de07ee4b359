"""Split training by messages: what comes out is what one network would have learned, whatever is lost or comes twice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.errors import InvalidInput
from runtime.messages import Declined, Failure, FitJob, LocalSpec, Message, RoundRecord, SplitStep
from runtime.training import flat
from runtime.training.data.job import load_job_data
from runtime.training.local import LocalTrainer
from runtime.training.trainer import make_job_network
from tests.runtime.training.protocol.wires import Fate, Wires, make_job, wires


def trained(job: FitJob, fate: Fate = lambda source, target, message: 1) -> tuple[Wires, tuple[RoundRecord, ...]]:
    """A job that has run to its end: its nodes, and the records."""
    with wires(job, fate) as nodes:
        report = nodes.run()
        assert report.phase == "done", report.message
        return nodes, report.records


def alone(job: FitJob) -> np.ndarray:
    """Weights float32 [P] of as many steps on one whole network with the first client's examples."""
    network = make_job_network(job)
    local = LocalTrainer(network, load_job_data(job.data).part(0), job.local)
    local.run(flat.to_vector(network), job.rounds * job.tau.tau)
    return flat.to_vector(network)


@pytest.mark.parametrize("labels_stay", [False, True])
@pytest.mark.parametrize("cut", [1, 2])
def test_one_client_learns_as_with_a_whole_network(cut: int, labels_stay: bool) -> None:
    """Six steps in two rounds, with momentum, batch normalisation and an exit on each side of the first cut."""
    job = make_job("split", cut=cut, labels_stay=labels_stay)
    np.testing.assert_allclose(trained(job)[0].weights, alone(job), atol=1e-5)


def test_several_clients_learn_as_in_federated_averaging() -> None:
    """SplitFedV1 is FedAvg: the same weights, losses and steps from both architectures."""
    split, federated = (make_job(name, num_clients=2) for name in ("split", "federated"))
    (ours, records), (theirs, others) = trained(split), trained(federated)
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-5)
    assert [record.loss for record in records] == pytest.approx([record.loss for record in others], abs=1e-5)


@pytest.mark.parametrize("labels_stay", [False, True])
def test_a_leg_that_is_lost_or_comes_twice_counts_once(labels_stay: bool) -> None:
    """Every leg is lost the first time, and comes twice the second."""
    job = make_job("split", labels_stay=labels_stay)
    seen: set[object] = set()

    def fate(source: str, target: str, message: Message) -> int:
        if not isinstance(message, SplitStep):
            return 1
        key = (target, message.round, message.step, message.leg)
        first = key not in seen
        seen.add(key)
        return 0 if first else 2

    np.testing.assert_allclose(trained(job, fate)[0].weights, alone(job), atol=1e-5)


@pytest.mark.parametrize("name", ["device-0", "edge"])
def test_a_node_that_dies_in_the_middle_begins_the_round_again(name: str) -> None:
    """Killed in the second step of the first round and started anew: no step is missing, none counts twice."""
    job = make_job("split")
    with wires(job) as nodes:
        nodes.run(lambda nodes: any(isinstance(sent, SplitStep) and sent.step == 1 for _, _, sent in nodes.delivered))
        nodes.restart(name)
        assert nodes.run().phase == "done"
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-5)


def test_a_device_that_falls_silent_fails_its_round_with_a_reason() -> None:
    """The server waits no longer than the device would try, and says who was silent at what; the job ends."""

    def fate(source: str, target: str, message: Message) -> int:
        return 0 if isinstance(message, SplitStep) and source == "device-0" and message.step == 1 else 1

    with wires(make_job("split", max_failed_rounds=1), fate) as nodes:
        report = nodes.run()
    assert report.phase == "failed"
    assert any(
        isinstance(sent, Declined) and "activations of step 1" in sent.message for _, target, sent in nodes.delivered if target == "cloud"
    )


def test_a_lost_client_leaves_the_others_round_alone() -> None:
    """Two clients, one without a voice: it is missing in every record, and the job is done."""

    def fate(source: str, target: str, message: Message) -> int:
        return 0 if isinstance(message, SplitStep) and source == "device-1" else 1

    with wires(make_job("split", num_clients=2), fate) as nodes:
        report = nodes.run()
    assert report.phase == "done"
    assert [(record.clients, record.missing) for record in report.records] == [(("device-0",), ("device-1",))] * 2


def test_a_leg_that_is_garbage_fails_the_round_and_not_the_job() -> None:
    """Activations without a tensor: the server says why, to both sides, and the round is tried again."""
    with wires(make_job("split")) as nodes:
        nodes.run(lambda nodes: any(isinstance(sent, SplitStep) and sent.leg == "gradients" for _, _, sent in nodes.delivered))
        nodes.hand("edge", b"device-0", SplitStep(request_id=1, job="j", client="device-0", round=1, step=1, leg="activations", tau=3))
        assert nodes.run().phase == "done"
    told = {target for _, target, sent in nodes.delivered if isinstance(sent, Declined) and "activations come with labels" in sent.message}
    assert told == {"device-0", "cloud"}


def test_labels_are_counted_where_they_leave() -> None:
    """Eight bytes a label, 32 in each of three steps; none in the U shape, which takes two more legs a step."""
    for labels_stay, raw_bytes in [(False, 3 * 32 * 8), (True, 0)]:
        nodes, records = trained(make_job("split", labels_stay=labels_stay))
        assert records[0].raw_bytes == raw_bytes
        legs = [sent.leg for source, _, sent in nodes.delivered if isinstance(sent, SplitStep) and source == "device-0"]
        assert legs.count("activations") == 6
        assert legs.count("logit_gradients") == (6 if labels_stay else 0)


def test_bytes_are_those_of_the_frames() -> None:
    """The uplink carries activations of half the side, logits, and the part; the wan whole weights and updates only."""
    job = make_job("split")
    nodes, (record, _) = trained(job)
    side = load_job_data(job.data).train.images.shape[-1] // 2
    activations = 4 * 32 * (4 * side * side + 10)
    assert 3 * activations < record.up_bytes[0] < 3 * activations + 8000
    assert 3 * activations < record.down_bytes[0] < 3 * activations + 8000
    whole = 4 * len(nodes.weights)
    assert whole < record.up_bytes[1] < whole + 1000
    assert whole < record.down_bytes[1] < whole + 1000


def test_a_job_goes_on_where_it_was_left(tmp_path: Path) -> None:
    """All nodes end after the first of two rounds and come back: velocities and the order of examples are as they were."""
    job = make_job("split", folder=str(tmp_path))
    trained(msgspec.structs.replace(job, rounds=1))
    with wires(job) as nodes:
        assert [record.round for record in nodes.report().records] == [1]
        assert nodes.run().phase == "done"
        np.testing.assert_allclose(nodes.weights, alone(job), atol=1e-5)


def test_jobs_that_cannot_be_split_are_refused() -> None:
    """No such cut; and what only updates can have."""
    with wires(make_job("split", cut=3)) as nodes:
        assert sum(isinstance(answer, Failure) and "behind its stages 1..2" in answer.message for answer in nodes.answers) == 2
    base = msgspec.to_builtins(make_job("split"))
    changes = [{"cut": 0}, {"compressor": "qsgd8"}, {"tau": {"rule": "adaptive"}}, {"local": msgspec.to_builtins(LocalSpec(proximal=0.1))}]
    for change in changes:
        with pytest.raises((msgspec.ValidationError, InvalidInput)):
            msgspec.convert(base | change, FitJob)
