"""Real networks behind masks: the root's new weights are those of plain averaging."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

pytest.importorskip("cryptography", reason="secure aggregation needs the extra drlctl[secure]")

from runtime.codecs.parcel import Parcel, pack, unpack
from runtime.errors import InvalidInput
from runtime.messages import MASKED, Contribution, DataSpec, FitJob, Masking, NetworkSpec, UpdateHeader
from runtime.training.masker import Masker, read_masked
from runtime.training.protocol.masking_tasks import KeysMade, KeysShared, MakeKeys, Reveal, ShareKeys, SharesRevealed, Unmask
from runtime.training.protocol.tasks import Aggregate, Decode, LocalSteps, Prepare
from runtime.training.secure_trainer import SecureTrainer
from runtime.training.trainer import Trainer
from runtime.training.trainers import make_trainer
from runtime.training.update import Update

JOB = FitJob(
    network=NetworkSpec(arguments={"width": 0.25}),
    data=DataSpec(num_clients=4, partition="dirichlet", examples_per_client=40),
    secure_aggregation=True,
)
NAMES = ("a", "b", "c", "d")


def trainer(job: FitJob, name: str, client: int) -> Trainer:
    """What a node would make for its role."""
    role = "client" if client >= 0 else "root"
    made = make_trainer(Prepare(job=job, role=role, node=name, client=client, slowdown=1.0), lambda *_: None)  # type: ignore[arg-type]
    assert isinstance(made, Trainer)
    return made


def contribution(header: UpdateHeader, compressor: str = MASKED) -> Contribution:
    """As a client sends it."""
    return Contribution(request_id=1, job="fit", header=header, compressor=compressor, parameters=b"")


def place(number: int) -> Masking:
    """One of four; the second client's examples weigh half."""
    return Masking(number=number, num_clients=4, threshold=3, weight=0.5 if number == 2 else 1.0)


def masked_round(job: FitJob, root: SecureTrainer, clients: dict[int, SecureTrainer], dropped: int) -> np.ndarray:
    """The root's new weights; one client drops out after sharing its keys."""
    weights = root.prepared.weights
    assert weights is not None
    keys, sealed = {}, {}
    for number, client in clients.items():
        made = client.answer_masking(MakeKeys(job="fit", round=1, masking=place(number)))
        assert isinstance(made, KeysMade)
        assert made.keys is not None
        keys[number] = made.keys
    for number, client in clients.items():
        shared = client.answer_masking(ShareKeys(job="fit", round=1, keys=keys))
        assert isinstance(shared, KeysShared)
        sealed[number] = shared.sealed
    updates, revealed = [], {}
    survivors = tuple(number for number in clients if number != dropped)
    for number in survivors:
        boxes = {sender: box[number] for sender, box in sealed.items() if sender != number}
        done = clients[number].local_steps(
            LocalSteps(job="fit", round=1, tau=2, weights=pack([weights]), compare=False, sent_round=-1, sealed=boxes)
        )
        assert done.header is not None
        read = root.decode(Decode(contribution=contribution(done.header), parcel=done.parcel))
        assert read.update is not None
        updates.append(read.update)
    for number in survivors:
        answer = clients[number].answer_masking(Reveal(job="fit", round=1, survivors=survivors))
        assert isinstance(answer, SharesRevealed)
        revealed[number] = answer
    unmask = Unmask(
        threshold=3,
        numbers={name: number for number, name in enumerate(NAMES, 1)},
        weights={name: place(number).weight for number, name in enumerate(NAMES, 1)},
        keys=keys,
        sharers=tuple(clients),
        revealed=revealed,
    )
    result = root.aggregate(Aggregate(job="fit", weights=weights, updates=tuple(updates), unmask=unmask))
    assert result.weights is not None
    return result.weights


@pytest.mark.slow
def test_the_unmasked_mean_is_the_plain_one() -> None:
    """Of the survivors, by their weights, to a hundredth of a thousandth of a step."""
    secure = {number: trainer(JOB, name, number - 1) for number, name in enumerate(NAMES, 1)}
    assert all(isinstance(client, SecureTrainer) for client in secure.values())
    got = masked_round(JOB, trainer(JOB, "root", -1), secure, dropped=4)  # type: ignore[arg-type]
    plain = msgspec.structs.replace(JOB, secure_aggregation=False)
    start = trainer(plain, "root", -1).prepared.weights
    assert start is not None
    deltas = []
    for index, name in enumerate(NAMES[:3]):
        done = trainer(plain, name, index).local_steps(
            LocalSteps(job="fit", round=1, tau=2, weights=pack([start]), compare=False, sent_round=-1)
        )
        deltas.append(unpack(done.parcel).tensors[0].view(np.float32))
    np.testing.assert_allclose(got - start, (deltas[0] + 0.5 * deltas[1] + deltas[2]) / 2.5, atol=1e-6)
    assert np.abs(deltas[0]).max() > 1e-3


def test_secrets_are_of_one_round() -> None:
    """Nothing is shared, masked or revealed for a round that is not theirs."""
    masker = Masker(4, np.random.default_rng(0).bytes)
    with pytest.raises(InvalidInput, match="no secrets of round 1"):
        masker.share_keys(ShareKeys(job="j", round=1, keys={}))
    masker.make_keys(MakeKeys(job="j", round=2, masking=place(1)))
    with pytest.raises(InvalidInput, match="no secrets of round 1"):
        masker.mask(np.zeros(4, np.float32), 1, {})


@pytest.mark.parametrize(
    ("parcel", "compressor"),
    [
        (pack([np.zeros(4, np.float32)]), MASKED),
        (pack([np.zeros(3, np.int32)]), MASKED),
        (pack([np.zeros(4, np.int32)] * 2), MASKED),
        (pack([np.zeros(4, np.int32)]), "identity"),
    ],
)
def test_what_is_no_masked_update_is_refused(parcel: Parcel, compressor: str) -> None:
    """Other numbers, another length, two tensors, or a plain update."""
    header = UpdateHeader(client="a", round=1, num_examples=1)
    assert "expected one masked int32 [4]" in read_masked(Decode(contribution=contribution(header, compressor), parcel=parcel), 4).error
    whole = read_masked(Decode(contribution=contribution(header), parcel=pack([np.full(4, -1, np.int32)])), 4)
    assert isinstance(whole.update, Update)
    np.testing.assert_array_equal(whole.update.delta, np.full(4, 2**32 - 1, np.uint32))
