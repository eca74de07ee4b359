"""A job's nodes come by the base: trained at the root, found in an earlier job's folder, kept for the next start."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from runtime.codecs.parcel import pack
from runtime.errors import DrlctlError, InvalidCheckpoint, InvalidConfig, InvalidInput, InvalidModel
from runtime.messages import Contribution, DataSpec, DistilSpec, FitJob, LocalSpec, NetworkSpec, TauSpec, TransferSpec
from runtime.models.networks.compact import compact_cnn
from runtime.models.pixels import PixelInput
from runtime.training import flat
from runtime.training.base import find_base
from runtime.training.protocol.tasks import Aggregate, Decode, Evaluate, LocalDone, LocalSteps, Prepare, Save
from runtime.training.tau_control import TauState
from runtime.training.trainer import Trainer, make_job_network
from runtime.training.transfer import layer_names, state_vector
from runtime.training.update import Update

BASE_DATA = DataSpec(classes=tuple("01234"), num_clients=1, partition="iid")
JOB = FitJob(
    network=NetworkSpec(arguments={"num_classes": 5, "width": 0.25}),
    data=DataSpec(num_clients=2, partition="iid", classes=tuple("56789"), examples_per_client=10),
    local=LocalSpec(learning_rate=0.05),
    tau=TauSpec(tau=3),
    transfer=TransferSpec(frozen=2, data=BASE_DATA, num_steps=4),
)


def coarse_cnn() -> torch.nn.Module:
    """The compact network on pictures of a sixteenth of the pixels, for steps that take as much less time."""
    return PixelInput(torch.nn.Sequential(torch.nn.AvgPool2d(4), *compact_cnn(num_classes=5, pixels=False).children()))


def with_transfer(**changes: object) -> FitJob:
    """The job with another transfer."""
    assert JOB.transfer is not None
    return msgspec.structs.replace(JOB, transfer=msgspec.structs.replace(JOB.transfer, **changes))


def trainer(job: FitJob, role: str = "root", client: int = -1) -> Trainer:
    """Of one node."""
    return Trainer(Prepare(job=job, role=role, node=role, client=client, slowdown=1.0), lambda *_: None)  # type: ignore[arg-type]


def steps(weights: np.ndarray, *base: np.ndarray) -> LocalSteps:
    """Three of them."""
    return LocalSteps(job="fit", round=1, tau=5, weights=pack([weights, *base]), compare=False, sent_round=-1)


def update_of(root: Trainer, done: LocalDone) -> Update:
    """A client's update as the root reads it."""
    assert done.header is not None
    message = Contribution(request_id=1, job="fit", header=done.header, compressor="identity", parameters=done.parameters)
    read = root.decode(Decode(contribution=message, parcel=done.parcel))
    assert read.update is not None
    return read.update


def base_of(job: FitJob) -> torch.nn.Module:
    """The base network as the root finds it."""
    assert job.transfer is not None
    return find_base(job, job.transfer, None, lambda _: None).network


def test_only_what_is_trained_is_sent_and_what_is_frozen_is_the_bases() -> None:
    """The head and the third block cross; two blocks came once and never move."""
    root, client = trainer(JOB), trainer(JOB, "client", 0)
    weights, base = root.prepared.weights, root.prepared.base
    assert weights is not None
    assert base is not None
    assert weights.size + base.size == flat.num_elements(make_job_network(JOB))
    assert root.prepared.base_s > 0
    done = client.local_steps(steps(weights, base))
    assert done.base_digest
    own, theirs = client._network.get_submodule("network.1"), base_of(JOB).get_submodule("network.1")
    np.testing.assert_array_equal(state_vector([own]), state_vector([theirs]))
    assert client.local_steps(steps(weights)).header is not None  # it needs the base once


def test_a_client_without_the_base_says_so() -> None:
    """It does not train on layers that nobody has trained."""
    root, client = trainer(JOB), trainer(JOB, "client", 0)
    assert root.prepared.weights is not None
    with pytest.raises(InvalidInput, match="no base to train on yet"):
        client.local_steps(steps(root.prepared.weights))
    with pytest.raises(DrlctlError, match="wrong_shape"):
        client.local_steps(steps(root.prepared.weights, np.zeros(3, np.float32)))


def test_tuned_layers_begin_as_the_bases_and_are_trained() -> None:
    """The first weights hold the base's third block; nothing beside them needs to come to clients when none is frozen."""
    job = with_transfer(frozen=0, tuned=3)
    root = trainer(job)
    assert root.prepared.base is None
    network = make_job_network(job)
    assert root.prepared.weights is not None
    flat.from_vector(network, root.prepared.weights)
    expected = base_of(job).get_submodule("network.2")
    np.testing.assert_array_equal(state_vector([network.get_submodule("network.2")]), state_vector([expected]))
    assert trainer(job, "client", 1).local_steps(steps(root.prepared.weights)).header is not None


def test_distillation_takes_the_whole_base_to_the_client_and_changes_what_is_learnt() -> None:
    """The loss is another one; the labels never leave the client either way."""
    same_task = msgspec.structs.replace(JOB, data=msgspec.structs.replace(JOB.data, root_fraction=0.5))
    plain = msgspec.structs.replace(same_task, transfer=TransferSpec(frozen=2, num_steps=4))
    taught = msgspec.structs.replace(same_task, transfer=TransferSpec(frozen=2, num_steps=4, distil=DistilSpec(share=0.9)))
    losses = []
    for job in (plain, taught):
        root = trainer(job)
        assert root.prepared.weights is not None
        assert root.prepared.base is not None
        done = trainer(job, "client", 0).local_steps(steps(root.prepared.weights, root.prepared.base))
        assert done.header is not None
        losses.append(done.header.metrics["loss"])
        whole = flat.num_elements(make_job_network(job))
        assert root.prepared.base.size == (whole if job is taught else whole - root.prepared.weights.size)
    assert losses[0] != losses[1]


def test_what_was_kept_is_used_again(tmp_path: Path) -> None:
    """A restarted root does not train again, a restarted client says that it holds the base."""
    job = msgspec.structs.replace(JOB, folder=str(tmp_path))
    first = trainer(job)
    assert first.prepared.weights is not None
    assert first.prepared.base is not None
    done = trainer(job, "client", 0).local_steps(steps(first.prepared.weights, first.prepared.base))
    again, client = trainer(job), trainer(job, "client", 0)
    assert again.prepared.base_s == 0
    np.testing.assert_array_equal(again.prepared.base, first.prepared.base)
    assert client.prepared.base_digest == done.base_digest
    assert client.local_steps(steps(first.prepared.weights)).header is not None
    (tmp_path / "client" / "base.safetensors").write_bytes(b"torn")
    with pytest.raises(InvalidCheckpoint, match="no base of this job"):
        trainer(job, "client", 0)


def test_an_earlier_jobs_result_is_a_base(tmp_path: Path) -> None:
    """By its run's folder, by its job's, or by the file; another network's is refused."""
    data = msgspec.structs.replace(BASE_DATA, num_clients=2)
    earlier = msgspec.structs.replace(JOB, data=data, transfer=None, folder=str(tmp_path / "run"))
    root = trainer(earlier)
    assert root.prepared.weights is not None
    weights = root.prepared.weights + np.float32(1.0)
    root.save(Save(job="fit", weights=weights, records=(), attempt=7, tau=TauState(tau=3)))
    network = make_job_network(earlier)
    flat.from_vector(network, weights)
    expected = state_vector([network.get_submodule(name) for name in layer_names(network)[:2]])
    for path in (tmp_path, tmp_path / "run", tmp_path / "run" / "root" / "7.state.safetensors"):
        job = with_transfer(data=None, checkpoint=str(path))
        np.testing.assert_array_equal(trainer(job).prepared.base, expected)
    with pytest.raises(InvalidCheckpoint, match="another network's weights"):
        trainer(msgspec.structs.replace(with_transfer(data=None, checkpoint=str(tmp_path)), network=NetworkSpec()))
    with pytest.raises(InvalidCheckpoint, match="holds 0"):
        trainer(with_transfer(data=None, checkpoint=str(tmp_path / "nowhere")))


def test_what_cannot_be_taken_over_is_refused_when_the_job_is_prepared() -> None:
    """Too many layers, none left to train, layers of another width, a teacher of other classes."""
    for job, error, why in (
        (with_transfer(frozen=1, tuned=9), InvalidModel, "no 10 layers to reuse"),
        (with_transfer(frozen=4), InvalidModel, "leave nothing to train"),
        (with_transfer(network=NetworkSpec(arguments={"width": 0.5})), InvalidModel, "differs between the networks"),
        (with_transfer(distil=DistilSpec()), InvalidConfig, "no answers to imitate about 5, 6"),
    ):
        with pytest.raises(error, match=why):
            trainer(job)


@pytest.mark.slow
def test_with_little_data_a_frozen_base_learns_faster_and_sends_less() -> None:
    """Digits 5..9, two clients of ten examples: after one round, mean over two seeds, far ahead, and with fewer bytes."""
    scratch, moved = [], []
    for seed in range(2):
        data = msgspec.structs.replace(JOB.data, seed=seed)
        transfer = TransferSpec(frozen=3, data=BASE_DATA, num_steps=150)
        job = msgspec.structs.replace(JOB, data=data, network=NetworkSpec(factory=f"{__name__}:coarse_cnn"), seed=seed)
        for results, chosen in ((scratch, None), (moved, transfer)):
            results.append(_play(msgspec.structs.replace(job, transfer=chosen), num_rounds=1))
    assert np.mean([accuracy for accuracy, _ in moved]) > np.mean([accuracy for accuracy, _ in scratch]) + 0.1
    assert max(sent for _, sent in moved) < min(sent for _, sent in scratch)


def _play(job: FitJob, num_rounds: int) -> tuple[float, int]:
    """Accuracy on the test split after so many rounds, and the bytes of arrays that went down and up."""
    root, clients = trainer(job), [trainer(job, "client", client) for client in range(job.data.num_clients)]
    weights, base, sent, accuracy = root.prepared.weights, root.prepared.base, 0, 0.0
    assert weights is not None
    for number in range(num_rounds):
        extra = [base] if base is not None and number == 0 else []
        done = [client.local_steps(steps(weights, *extra)) for client in clients]
        sent += len(clients) * (2 * weights.nbytes + sum(each.nbytes for each in extra))
        updates = tuple(update_of(root, each) for each in done)
        result = root.aggregate(Aggregate(job=job.name, weights=weights, updates=updates))
        assert result.weights is not None
        weights = result.weights
        accuracy = root.evaluate(Evaluate(job=job.name, weights=weights)).accuracy or 0.0
    return accuracy, sent
