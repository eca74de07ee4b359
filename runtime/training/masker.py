"""A client's secrets and masks in one round after another, and what the root makes of a masked sum.  Numpy, and `cryptography`.

What is summed is w_i x_i: the update times the client's weight in (0, 1], so that the weighted mean is the sum over the
survivors divided by the sum of their weights.  In fixed point of 32 bits each value has room for |w_i x_i| <= LARGEST; with K
clients the rounding of one summand is at most LARGEST K / 2^32, 6e-8 for 8 clients.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from runtime.codecs.parcel import Parcel, pack, unpack
from runtime.errors import InvalidInput, InvalidTensor, MalformedMessage
from runtime.messages import MASKED, KeyPair
from runtime.training.protocol.masking_tasks import KeysMade, KeysShared, MakeKeys, Reveal, ShareKeys, SharesRevealed, Unmask
from runtime.training.protocol.tasks import Decode, Decoded
from runtime.training.secure_aggregation.client import SecureClient
from runtime.training.secure_aggregation.server import remove_masks
from runtime.training.secure_aggregation.values import PublicKeys, SecureConfig, Unmasking
from runtime.training.shamir import Entropy, Share
from runtime.training.update import Update, Vector, find_defect

LARGEST = 16
"""Magnitude of an update's value that is not clipped: a weight that moves farther in one round is lost anyway."""


def secure_config(num_clients: int, threshold: int, num_parameters: int) -> SecureConfig:
    """The same at root and clients: as many bits behind the point as leave room for the sum."""
    bits = 31 - math.ceil(math.log2(LARGEST * num_clients))
    return SecureConfig(num_clients=num_clients, threshold=threshold, num_parameters=num_parameters, fraction_bits=bits)


class Masker:
    """A client's part.  Secrets are kept in memory only: a client that is restarted has dropped out of the round.

    Every method raises what `SecureClient` raises, and InvalidInput for another round than the one whose secrets it has.
    """

    def __init__(self, num_parameters: int, entropy: Entropy = os.urandom) -> None:
        self._num_parameters, self._entropy = num_parameters, entropy
        self._round, self._number, self._weight = -1, 0, 0.0
        self._client: SecureClient | None = None

    def make_keys(self, task: MakeKeys) -> KeysMade:
        """Secrets for a new round; those of the last one are forgotten."""
        place = task.masking
        self._client = SecureClient(secure_config(place.num_clients, place.threshold, self._num_parameters), place.number, self._entropy)
        self._round, self._number, self._weight = task.round, place.number, place.weight
        public = self._client.public_keys()
        return KeysMade(job=task.job, round=task.round, keys=KeyPair(seal=public.seal, mask=public.mask))

    def share_keys(self, task: ShareKeys) -> KeysShared:
        """Shares for everybody in the book."""
        keys = {number: PublicKeys(seal=pair.seal, mask=pair.mask) for number, pair in task.keys.items()}
        return KeysShared(job=task.job, round=task.round, sealed=self._of(task.round).share_keys(keys))

    def mask(self, update: Vector, number: int, sealed: Mapping[int, bytes]) -> Parcel:
        """Round `number`'s update float32 [P], weighted and masked: int32 [P], the bits of what is uint32."""
        masked = self._of(number).mask(update.astype(np.float64) * self._weight, sealed)
        return pack([masked.view(np.int32)])

    def reveal(self, task: Reveal) -> SharesRevealed:
        """What unmasks the survivors' sum, once."""
        answer = self._of(task.round).unmask(task.survivors)
        return SharesRevealed(
            job=task.job,
            round=task.round,
            mask_keys={number: share.y for number, share in answer.mask_keys.items()},
            own_seeds={number: share.y for number, share in answer.own_seeds.items()},
        )

    def _of(self, number: int) -> SecureClient:
        if self._client is None or number != self._round:
            raise InvalidInput(f"this client has no secrets of round {number}")
        return self._client


def read_masked(task: Decode, num_parameters: int) -> Decoded:
    """A masked contribution as an update of uint32 [P]; what is none comes back as an error."""
    contribution, header = task.contribution, task.contribution.header
    about = Decoded(job=contribution.job, client=header.client, round=header.round)
    try:
        tensors = unpack(task.parcel).tensors
    except MalformedMessage as exc:
        return msgspec.structs.replace(about, error=str(exc))
    if contribution.compressor != MASKED or len(tensors) != 1 or find_defect(tensors[0], num_parameters, np.dtype(np.int32)) is not None:
        forms = [f"{tensor.dtype}{list(tensor.shape)}" for tensor in tensors]
        return msgspec.structs.replace(
            about, error=f"expected one masked int32 [{num_parameters}], got {contribution.compressor!r} {forms}"
        )
    return msgspec.structs.replace(about, update=Update(header=header, delta=tensors[0].view(np.uint32)))


def unmasked_mean(task: Unmask, updates: Sequence[Update], num_parameters: int) -> Update:
    """The survivors' weighted mean as if it were one client's update.

    Raises RoundFailed when too few survivors revealed shares, MalformedMessage for shares that give no key, InvalidTensor
    when the mean is not finite in float32.
    """
    config = secure_config(len(task.numbers), task.threshold, num_parameters)
    keys = {number: PublicKeys(seal=pair.seal, mask=pair.mask) for number, pair in task.keys.items()}
    masked = {task.numbers[update.header.client]: update.delta for update in updates}
    revealed = {number: _unmasking(number, answer) for number, answer in task.revealed.items()}
    total = remove_masks(config, keys, task.sharers, masked, revealed)
    weight = math.fsum(task.weights[update.header.client] for update in updates)
    mean = (total / weight).astype(np.float32)
    if (defect := find_defect(mean, num_parameters)) is not None:
        raise InvalidTensor(f"the unmasked mean is {defect}")
    return Update(header=msgspec.structs.replace(updates[0].header, client="sum", num_examples=1), delta=mean)


def _unmasking(number: int, answer: SharesRevealed) -> Unmasking:
    try:
        return Unmasking(
            mask_keys={owner: Share(x=number, y=y) for owner, y in answer.mask_keys.items()},
            own_seeds={owner: Share(x=number, y=y) for owner, y in answer.own_seeds.items()},
        )
    except InvalidInput as exc:
        raise MalformedMessage(f"client {number} revealed something that is no share: {exc}") from exc
