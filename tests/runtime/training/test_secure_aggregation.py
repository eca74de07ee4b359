"""Secure sums: exact, hidden, and alive while enough clients stay."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidConfig, InvalidInput, InvalidTensor, MalformedMessage, RoundFailed

pytest.importorskip("cryptography", reason="secure aggregation needs the extra drlctl[secure]")

from runtime.training.key_agreement import agree, public_key, seal, unseal
from runtime.training.secure_aggregation.client import SecureClient
from runtime.training.secure_aggregation.server import remove_masks
from runtime.training.secure_aggregation.values import SecureConfig, expand

CONFIG = SecureConfig(num_clients=5, threshold=3, num_parameters=6)
ALL = frozenset(range(1, 6))
VECTORS = {n: np.random.default_rng(n).normal(size=6) for n in ALL}


class Play:
    """All clients and the relaying server up to the masked vectors, with clients dropping out before each step."""

    def __init__(self, without_shares: Collection[int] = (), without_vector: Collection[int] = (), seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.clients = {n: SecureClient(CONFIG, n, rng.bytes) for n in sorted(ALL)}
        self.keys = {n: client.public_keys() for n, client in self.clients.items()}
        self.sealed = {n: client.share_keys(self.keys) for n, client in self.clients.items() if n not in without_shares}
        self.masked = {n: self.clients[n].mask(VECTORS[n], self.inbox(n)) for n in self.sealed if n not in without_vector}

    def inbox(self, recipient: int) -> dict[int, bytes]:
        """What the others sealed for this client."""
        return {sender: boxes[recipient] for sender, boxes in self.sealed.items() if sender != recipient}

    def sum(self, without_answer: Collection[int] = ()) -> np.ndarray:
        """Unmask with those who still answer."""
        revealed = {n: self.clients[n].unmask(set(self.masked)) for n in self.masked if n not in without_answer}
        return remove_masks(CONFIG, self.keys, set(self.sealed), self.masked, revealed)


def quantised_sum(survivors: Collection[int]) -> np.ndarray:
    """What the sum must be, to the bit."""
    code = CONFIG.fixed_point()
    return np.sum([np.rint(VECTORS[n] * 2**code.fraction_bits) for n in survivors], axis=0) / 2**code.fraction_bits


@settings(max_examples=15)
@given(st.permutations(sorted(ALL)), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 99))
def test_the_sum_is_exact_whoever_drops_out_down_to_the_threshold(order: list[int], early: int, middle: int, late: int, seed: int) -> None:
    """Clients leave before sharing, before sending and before unmasking; as long as three answer, the survivors' sum is exact."""
    middle = min(middle, 2 - early)
    late = min(max(0, late), 5 - early - middle - 3)
    gone, lost, silent = order[:early], order[early : early + middle], order[early + middle : early + middle + late]
    play = Play(gone, lost, seed)
    np.testing.assert_array_equal(play.sum(silent), quantised_sum(ALL - set(gone) - set(lost)))


def test_below_the_threshold_the_round_fails() -> None:
    """With two of three needed survivors there is a typed error at each step, and no sum."""
    with pytest.raises(RoundFailed, match="shared their keys"):
        Play(without_shares=(1, 2, 3))
    with pytest.raises(RoundFailed, match="sent a masked vector"):
        Play(without_vector=(1, 2, 3)).sum()
    with pytest.raises(RoundFailed, match="5 masked vectors and 2 answers"):
        Play().sum(without_answer=(1, 2, 3))


def test_a_masked_vector_looks_uniform_and_differs_each_round() -> None:
    """The same vector of zeros under other keys shares no coordinate, and its bits are balanced."""
    config = SecureConfig(num_clients=2, threshold=2, num_parameters=5000)

    def masked(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        one, two = (SecureClient(config, n, rng.bytes) for n in (1, 2))
        keys = {1: one.public_keys(), 2: two.public_keys()}
        one.share_keys(keys)
        return one.mask(np.zeros(5000), {2: two.share_keys(keys)[1]})

    first, second = masked(1), masked(2)
    assert np.mean(first == second) < 0.001
    assert np.unpackbits(first.view(np.uint8)).mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(32 * 5000))


def test_no_client_reveals_both_kinds_of_share_of_anybody() -> None:
    """Of a survivor only the seed, of a dropped client only the key, and only once."""
    play = Play(without_vector=(4,))
    answer = play.clients[1].unmask({1, 2, 3, 5})
    assert (set(answer.own_seeds), set(answer.mask_keys)) == ({1, 2, 3, 5}, {4})
    with pytest.raises(InvalidInput, match="unmask is not due"):
        play.clients[1].unmask({1, 2, 3, 4})


def test_steps_out_of_turn_are_refused() -> None:
    """Masking two vectors with one mask would reveal their difference."""
    play = Play()
    with pytest.raises(InvalidInput, match="mask is not due"):
        play.clients[1].mask(VECTORS[1], play.inbox(1))
    with pytest.raises(InvalidInput, match="share_keys is not due"):
        play.clients[1].share_keys(play.keys)


def test_changed_or_misdirected_shares_do_not_open() -> None:
    """One flipped bit, or a box that was sealed for somebody else."""
    for spoil in (lambda boxes: {2: bytes([boxes[2][0] ^ 1]) + boxes[2][1:]}, lambda boxes: {3: boxes[2]}, lambda boxes: {1: boxes[2]}):
        play = Play(without_vector=(1,))
        with pytest.raises(MalformedMessage):
            play.clients[1].mask(VECTORS[1], play.inbox(1) | spoil(play.inbox(1)))


def test_survivors_that_never_shared_are_refused() -> None:
    """The server may not invent a client."""
    with pytest.raises(MalformedMessage, match="not all among those who shared keys"):
        Play(without_shares=(5,)).clients[1].unmask({1, 2, 3, 5})


def test_a_server_with_wrong_shares_gets_no_sum() -> None:
    """Shares of another client's key are noticed, because they do not give the announced public key."""
    play = Play(without_vector=(4, 5))
    answers = {n: play.clients[n].unmask({1, 2, 3}) for n in (1, 2, 3)}
    swapped = {n: msgspec.structs.replace(a, mask_keys={4: a.mask_keys[5], 5: a.mask_keys[4]}) for n, a in answers.items()}
    with pytest.raises(MalformedMessage, match="another key than the one it announced"):
        remove_masks(CONFIG, play.keys, ALL, play.masked, swapped)


def test_masked_vectors_of_another_form_are_refused() -> None:
    """Length and dtype are checked on both sides."""
    play = Play()
    answers = {n: play.clients[n].unmask(ALL) for n in ALL}
    for bad in (np.zeros(5, np.uint32), np.zeros(6, np.int64)):
        with pytest.raises(MalformedMessage, match="masked vector of client 2"):
            remove_masks(CONFIG, play.keys, ALL, play.masked | {2: bad}, answers)
    with pytest.raises(InvalidTensor, match="expected"):
        SecureClient(CONFIG, 1, np.random.default_rng(0).bytes).mask(np.zeros(5), {})


@pytest.mark.parametrize("threshold", [1, 2, 6])
def test_a_threshold_that_two_groups_could_reach_is_refused(threshold: int) -> None:
    """Above half, so that no two disjoint sets of survivors exist; and no more than there are."""
    with pytest.raises(InvalidConfig, match="above half"):
        SecureConfig(num_clients=5, threshold=threshold, num_parameters=1)


def test_both_sides_agree_on_one_key_per_purpose() -> None:
    """And a public key of small order, which would make the secret known to all, is refused."""
    alice, bob = bytes(range(1, 33)), bytes(range(32))
    assert agree(alice, public_key(bob), b"mask") == agree(bob, public_key(alice), b"mask")
    assert agree(alice, public_key(bob), b"mask") != agree(alice, public_key(bob), b"seal")
    with pytest.raises(MalformedMessage, match="public key"):
        agree(alice, bytes(32), b"mask")


def test_sealed_boxes_open_for_their_direction_only() -> None:
    """The nonce is the direction."""
    box = seal(bytes(32), b"secret", sender=1, recipient=2)
    assert unseal(bytes(32), box, sender=1, recipient=2) == b"secret"
    with pytest.raises(MalformedMessage, match="do not open"):
        unseal(bytes(32), box, sender=2, recipient=1)


def test_masks_expand_deterministically() -> None:
    """A prefix of a longer mask of the same seed; another seed gives another one."""
    np.testing.assert_array_equal(expand(b"a" * 32, 10), expand(b"a" * 32, 20)[:10])
    assert (expand(b"a" * 32, 10) != expand(b"b" * 32, 10)).any()
