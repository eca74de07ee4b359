"""What an aggregating node keeps and hands out under privacy: noise that nobody can draw again, and every release accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidCheckpoint
from runtime.messages import FitJob, PrivacyConfig
from runtime.training.privacy import account
from runtime.training.protocol.tasks import Aggregate, Save
from runtime.training.server import RELEASES_NAME, Combined, Server
from runtime.training.tau_control import TauState
from tests.runtime.training.updates import updates_of

SIZE = 8
PRIVACY = PrivacyConfig(max_norm=1.0, noise_multiplier=1.0, sampling_fraction=1.0)
JOB = FitJob(privacy=PRIVACY)


def combine(server: Server, folder: Path | None = None, sampled: float = 1.0) -> Combined:
    """Two updates of nothing: what comes out is noise."""
    updates = tuple(updates_of(np.zeros((2, SIZE), np.float32)))
    return server.combine(Aggregate(job="fit", weights=np.zeros(SIZE, np.float32), updates=updates, sampled=sampled), folder)


def save(server: Server, folder: Path, weights: np.ndarray) -> None:
    """As after a round."""
    server.save(Save(job="fit", weights=weights, records=(), attempt=1, tau=TauState(tau=1)), folder)


def test_the_noise_is_not_what_the_seed_gives() -> None:
    """Every node is told the job and its seed: a second server of the same job draws other noise, as a client would."""
    first, second = (combine(Server(JOB, SIZE)).weights for _ in range(2))
    assert np.abs(first).min() > 0
    assert not np.isin(first, second).any()


def test_a_release_that_no_record_tells_of_is_accounted_for(tmp_path: Path) -> None:
    """The second round is handed out, then the root dies before it is saved and plays it again: three sums have left, all different."""
    before, after = Server(JOB, SIZE), Server(JOB, SIZE)
    first = combine(before, tmp_path)
    save(before, tmp_path, first.weights)
    second = combine(before, tmp_path)
    assert after.load(tmp_path) is not None
    third = combine(after, tmp_path)
    assert [one.epsilon for one in (first, second, third)] == [account(PRIVACY, {1.0: number}).epsilon for number in (1, 2, 3)]
    assert len({one.weights.tobytes() for one in (first, second, third)}) == 3


def test_a_release_before_anything_was_saved_is_accounted_for(tmp_path: Path) -> None:
    """The job begins anew, its account does not."""
    combine(Server(JOB, SIZE), tmp_path)
    after = Server(JOB, SIZE)
    assert after.load(tmp_path) is None
    assert combine(after, tmp_path).epsilon == account(PRIVACY, {1.0: 2}).epsilon


def test_shares_are_accounted_for_as_they_were_drawn(tmp_path: Path) -> None:
    """A round of an eighth and one of a quarter, with a restart between them."""
    before, after = Server(JOB, SIZE), Server(JOB, SIZE)
    assert combine(before, tmp_path, 0.125).epsilon == account(PRIVACY, {0.125: 1}).epsilon
    after.load(tmp_path)
    assert combine(after, tmp_path, 0.25).epsilon == account(PRIVACY, {0.125: 1, 0.25: 1}).epsilon


def test_what_cannot_be_counted_is_not_released(tmp_path: Path) -> None:
    """Something else stands where the count belongs: the round fails, and has cost nothing."""
    server, folder = Server(JOB, SIZE), tmp_path / "cloud"
    folder.write_text("no folder")
    with pytest.raises(FileExistsError):
        combine(server, folder)
    folder.unlink()
    assert combine(server, folder).epsilon == account(PRIVACY, {1.0: 1}).epsilon


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"1.5": 1}', b'{"1.0": -1}'])
def test_a_lost_account_is_no_new_one(tmp_path: Path, content: bytes | None) -> None:
    """Weights whose releases nobody knows any more are not gone on from."""
    server = Server(JOB, SIZE)
    save(server, tmp_path, combine(server, tmp_path).weights)
    (tmp_path / RELEASES_NAME).unlink()
    if content is not None:
        (tmp_path / RELEASES_NAME).write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match="remove that folder"):
        Server(JOB, SIZE).load(tmp_path)


def test_without_privacy_nothing_is_counted(tmp_path: Path) -> None:
    """No file is written, and none is asked for."""
    server = Server(FitJob(), SIZE)
    combined = combine(server, tmp_path)
    assert combined.epsilon is None
    save(server, tmp_path, combined.weights)
    assert not (tmp_path / RELEASES_NAME).exists()
    assert Server(FitJob(), SIZE).load(tmp_path) is not None
