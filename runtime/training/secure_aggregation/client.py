"""A client's side of a secure round."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import numpy as np

from runtime.errors import InvalidInput, InvalidTensor, MalformedMessage, RoundFailed
from runtime.training.fixed_point import Masked
from runtime.training.key_agreement import KEY_BYTES, agree, public_key, seal, unseal
from runtime.training.secure_aggregation.values import PublicKeys, SecureConfig, SharePair, Unmasking, expand
from runtime.training.shamir import Entropy, split_secret


class SecureClient:
    """Goes once through: public_keys, share_keys, mask, unmask.  A call out of turn raises InvalidInput: repeating one would leak."""

    def __init__(self, config: SecureConfig, number: int, entropy: Entropy) -> None:
        if not 1 <= number <= config.num_clients:
            raise InvalidInput(f"clients are numbered 1..{config.num_clients}, got {number}")
        self._config, self._number, self._entropy = config, number, entropy
        self._seal_key, self._mask_key, self._own_seed = entropy(KEY_BYTES), entropy(KEY_BYTES), entropy(KEY_BYTES)
        self._keys: dict[int, PublicKeys] = {}
        self._kept: dict[int, SharePair] = {}
        self._turn = "share_keys"

    def public_keys(self) -> PublicKeys:
        """For the server to relay to all."""
        return PublicKeys(seal=public_key(self._seal_key), mask=public_key(self._mask_key))

    def share_keys(self, keys: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Sealed shares for each other client in U1.  Raises RoundFailed when U1 is below the threshold."""
        self._take_turn("share_keys", then="mask")
        self._require(keys, "sent keys")
        self._keys = dict(keys)
        config = self._config
        of_key = split_secret(self._mask_key, config.num_clients, config.threshold, self._entropy)
        of_seed = split_secret(self._own_seed, config.num_clients, config.threshold, self._entropy)
        pairs = {number: SharePair(mask_key=of_key[number - 1], own_seed=of_seed[number - 1]) for number in keys}
        self._kept[self._number] = pairs.pop(self._number)
        return {
            peer: seal(self._seal_with(peer), msgspec.msgpack.encode(pair), sender=self._number, recipient=peer)
            for peer, pair in pairs.items()
        }

    def mask(self, vector: np.ndarray, sealed: Mapping[int, bytes]) -> Masked:
        """y_u, uint32 [P], given what each other client of U2 sealed for this one.

        Raises RoundFailed when U2 is below the threshold, MalformedMessage for shares that do not open, InvalidTensor for a bad vector.
        """
        if vector.shape != (self._config.num_parameters,):
            raise InvalidTensor(f"vector to mask has shape {vector.shape}, expected ({self._config.num_parameters},)")
        self._take_turn("mask", then="unmask")
        for peer, box in sealed.items():
            if peer == self._number or peer not in self._keys:
                raise MalformedMessage(f"shares from client {peer}, who is not another client that sent keys")
            self._kept[peer] = self._open(peer, box)
        self._require(self._kept, "shared their keys")
        total: Masked = self._config.fixed_point().quantise(vector) + expand(self._own_seed, self._config.num_parameters)
        for peer in sealed:
            mask = expand(agree(self._mask_key, self._keys[peer].mask, b"mask"), self._config.num_parameters)
            total = total + mask if peer > self._number else total - mask
        return total

    def unmask(self, survivors: Collection[int]) -> Unmasking:
        """Shares of U3's own seeds and of the others' mask keys.  Raises RoundFailed when U3 is below the threshold."""
        self._take_turn("unmask", then="nothing")
        if not set(survivors) <= set(self._kept):
            raise MalformedMessage(f"survivors {sorted(survivors)} are not all among those who shared keys, {sorted(self._kept)}")
        self._require(survivors, "sent a masked vector")
        return Unmasking(
            mask_keys={peer: pair.mask_key for peer, pair in self._kept.items() if peer not in survivors},
            own_seeds={peer: pair.own_seed for peer, pair in self._kept.items() if peer in survivors},
        )

    def _seal_with(self, peer: int) -> bytes:
        return agree(self._seal_key, self._keys[peer].seal, b"seal")

    def _open(self, peer: int, box: bytes) -> SharePair:
        plaintext = unseal(self._seal_with(peer), box, sender=peer, recipient=self._number)
        try:
            pair = msgspec.msgpack.decode(plaintext, type=SharePair)
        except msgspec.MsgspecError as exc:
            raise MalformedMessage(f"client {peer} sealed something that is no pair of shares: {exc}") from exc
        if (pair.mask_key.x, pair.own_seed.x) != (self._number, self._number):
            raise MalformedMessage(f"client {peer} sealed shares of x = {pair.mask_key.x}, {pair.own_seed.x}, expected {self._number}")
        return pair

    def _take_turn(self, step: str, *, then: str) -> None:
        if self._turn != step:
            raise InvalidInput(f"secure client {self._number}: {step} is not due, {self._turn} is; start a new client for a new round")
        self._turn = then

    def _require(self, members: Collection[int], what: str) -> None:
        if len(members) < self._config.threshold or self._number not in members:
            raise RoundFailed(
                f"secure round: clients {sorted(members)} {what}; expected at least {self._config.threshold}, "
                f"client {self._number} among them"
            )
