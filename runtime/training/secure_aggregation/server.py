"""The server's side of a secure round: the sum of masked vectors, without the masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from runtime.errors import InvalidInput, MalformedMessage, RoundFailed
from runtime.training.fixed_point import Masked
from runtime.training.key_agreement import agree, public_key
from runtime.training.secure_aggregation.values import PublicKeys, SecureConfig, Unmasking, expand
from runtime.training.shamir import Share, join_shares


def remove_masks(
    config: SecureConfig,
    keys: Mapping[int, PublicKeys],
    sharers: Collection[int],
    masked: Mapping[int, Masked],
    revealed: Mapping[int, Unmasking],
) -> np.ndarray:
    """The sum of the survivors' vectors, float64 [P]: exact for their quantised values.

    `keys` of U1, `sharers` U2, `masked` of U3 (a subset of U2), `revealed` by those of U3 who still answered.
    Raises RoundFailed when fewer than `threshold` sent a masked vector or answered, MalformedMessage for shares that give no key.
    """
    if min(len(masked), len(revealed)) < config.threshold:
        raise RoundFailed(
            f"secure round: {len(masked)} masked vectors and {len(revealed)} answers to unmask them; expected at least {config.threshold}"
        )
    if not set(revealed) <= set(masked) <= set(sharers) <= set(keys):
        raise InvalidInput("expected revealed within masked within sharers within keys")
    total = _checked_sum(config, masked)
    for survivor in masked:
        seed = _join(config, survivor, (answer.own_seeds.get(survivor) for answer in revealed.values()))
        total = total - expand(seed, config.num_parameters)
    for dropped in set(sharers) - set(masked):
        key = _join(config, dropped, (answer.mask_keys.get(dropped) for answer in revealed.values()))
        if public_key(key) != keys[dropped].mask:
            raise MalformedMessage(f"the shares of client {dropped}'s mask key give another key than the one it announced")
        for survivor in masked:
            mask = expand(agree(key, keys[survivor].mask, b"mask"), config.num_parameters)
            # The survivor added the mask if the dropped client's number is the higher one.
            total = total - mask if dropped > survivor else total + mask
    return config.fixed_point().restore(total)


def _checked_sum(config: SecureConfig, masked: Mapping[int, Masked]) -> Masked:
    total = np.zeros(config.num_parameters, np.uint32)
    for client, vector in masked.items():
        if vector.shape != total.shape or vector.dtype != np.uint32:
            raise MalformedMessage(f"masked vector of client {client} is {vector.dtype} {vector.shape}, expected uint32 {total.shape}")
        total = total + vector
    return total


def _join(config: SecureConfig, owner: int, shares: Iterable[Share | None]) -> bytes:
    given = [share for share in shares if share is not None]
    if len(given) < config.threshold:
        raise RoundFailed(
            f"secure round: {len(given)} shares of client {owner}'s secret were revealed; expected at least {config.threshold}"
        )
    try:
        return join_shares(given, config.threshold)
    except InvalidInput as exc:
        raise MalformedMessage(f"the shares of client {owner}'s secret do not fit together: {exc}") from exc
