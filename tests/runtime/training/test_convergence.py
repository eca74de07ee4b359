"""The convergence model is exact for what it models, and follows real federated training of other taus than it was fitted to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.federated_runs import record_run
from runtime.errors import InvalidConfig, InvalidInput
from runtime.messages import RoundRecord
from runtime.training.convergence import ConvergenceModel
from runtime.training.convergence_fit import error, fit, predict
from runtime.training.recording import RecordedRound, Recording, load_recording, recording_of, save_recording
from runtime.training.tau import combine_estimates, estimate_client

RATE = 0.1
MODEL = ConvergenceModel(
    curvatures=(6.0, 1.5, 0.3), initial_gaps=(0.4, 1.0, 0.6), irreducible_loss=0.05, noise=0.02, spread=0.6, heterogeneity=(0.05, 0.2, 0.1)
)


def optima() -> np.ndarray:
    """[2, K] where the loss of flat and steep clients is least, in units of weights."""
    distance = np.sqrt(np.array(MODEL.heterogeneity) * 2 / np.array(MODEL.curvatures))
    return np.stack([distance * (1 + MODEL.spread), -distance * (1 - MODEL.spread)])


def sample_runs(tau: int, num_rounds: int, num_clients: int, num_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Global weights [runs, K] after each round and mean drift of the last one, by taking every noisy step of every client."""
    rng, curvature = np.random.default_rng(3), np.array(MODEL.curvatures)
    kinds = np.arange(num_clients) % 2
    slope = curvature * np.array([1 - MODEL.spread, 1 + MODEL.spread])[kinds][:, None]
    weights = np.tile(np.sqrt(2 * np.array(MODEL.initial_gaps) / curvature), (num_runs, 1))
    drift = np.empty(0)
    for _ in range(num_rounds):
        local = np.repeat(weights[:, None], num_clients, axis=1)
        for _ in range(tau):
            noise = rng.normal(size=local.shape) * np.sqrt(MODEL.noise * curvature)
            local = local - RATE * (slope * (local - optima()[kinds]) + noise)
        updates = local - weights[:, None]
        mean = updates.mean(axis=1, keepdims=True)
        drift = np.array([np.square(updates - mean).sum(), np.square(updates).sum()])
        weights = weights + mean[:, 0]
    return weights, drift


@pytest.mark.parametrize(("tau", "num_clients"), [(1, 2), (4, 8), (25, 4)])
def test_mean_and_variance_are_those_of_sampled_runs(tau: int, num_clients: int) -> None:
    """Four thousand runs with every noisy step taken have the mean and the variance of the recursion."""
    weights, _ = sample_runs(tau, 3, num_clients, 4000)
    progress = MODEL.start(1)
    for _ in range(3):
        progress = MODEL.step(progress, tau, RATE, num_clients)
    units = np.sqrt(np.array(MODEL.curvatures) / 2)
    error_of_mean = (weights * units).std(axis=0) / np.sqrt(4000)
    assert (np.abs((weights * units).mean(axis=0) - progress.mean[:, 0]) < 5 * error_of_mean).all()
    np.testing.assert_allclose((weights * units).var(axis=0), progress.variance[:, 0], rtol=0.12)
    gap = np.square(weights * units).sum(axis=1).mean()
    assert MODEL.loss(progress)[0] == pytest.approx(MODEL.irreducible_loss + gap, rel=0.01)


def test_drift_is_that_of_sampled_updates() -> None:
    """With many clients their updates lie as far apart as the closed form says."""
    _, (apart, whole) = sample_runs(6, 1, 200, 100)
    assert MODEL.drift(MODEL.start(1), 6, RATE)[0] == pytest.approx(apart / whole, rel=0.02)


def test_the_surface_is_what_clients_would_estimate() -> None:
    """Without noise, rho, beta and delta are those of runtime/training/tau.py on the two kinds of clients."""
    quiet = msgspec.structs.replace(MODEL, noise=0.0)
    curvature, tau = np.array(quiet.curvatures), 5
    start = np.sqrt(2 * np.array(quiet.initial_gaps) / curvature)
    estimates, gradients = [], []
    for factor, centre in zip((1 - quiet.spread, 1 + quiet.spread), optima(), strict=True):
        local = centre + (1 - RATE * factor * curvature) ** tau * (start - centre)
        losses = [float((factor * curvature / 2 * (at - centre) ** 2).sum()) for at in (local, start)]
        slopes = [factor * curvature * (at - centre) for at in (local, start)]
        estimates.append(
            estimate_client(
                num_examples=1, local=local, start=start, local_loss=losses[0], global_loss=losses[1],
                local_gradient=slopes[0], global_gradient=slopes[1],
            )
        )  # fmt: skip
        gradients.append(slopes[1])
    expected, got = combine_estimates(estimates, gradients), quiet.surface(quiet.start(1), tau, RATE)
    for name in ("lipschitz", "smoothness", "divergence"):
        assert getattr(got, name) == pytest.approx(getattr(expected, name), rel=1e-6), name


@given(tau=st.integers(1, 40), rounds=st.integers(1, 6))
def test_without_heterogeneity_only_the_number_of_steps_counts(tau: int, rounds: int) -> None:
    """Clients that are alike lose nothing by aggregating rarely, but for the averaging of their noise."""
    alike = msgspec.structs.replace(MODEL, spread=0.0, heterogeneity=(), noise=0.0)
    long, short = alike.start(1), alike.start(1)
    for _ in range(rounds):
        long = alike.step(long, tau, RATE, 4)
    for _ in range(rounds * tau):
        short = alike.step(short, 1, RATE, 4)
    np.testing.assert_allclose(alike.loss(long), alike.loss(short), rtol=1e-9)


def test_long_rounds_of_unlike_clients_end_elsewhere() -> None:
    """The longer the rounds, the higher the loss where the run ends; with tau = 1 it is the optimum."""
    quiet = msgspec.structs.replace(MODEL, noise=0.0)
    ends = []
    for tau in (1, 5, 50):
        progress = quiet.start(1)
        for _ in range(4000 // tau):
            progress = quiet.step(progress, tau, RATE, 8)
        ends.append(float(quiet.loss(progress)[0]))
    assert ends[0] == pytest.approx(quiet.irreducible_loss, abs=1e-6)
    assert ends[0] < ends[1] < ends[2]


def test_runs_are_independent_columns() -> None:
    """Stepping runs of several taus side by side is stepping each alone."""
    together = MODEL.step(MODEL.start(3), [1, 7, 50], RATE, [2, 4, 8])
    for column, (tau, clients) in enumerate(((1, 2), (7, 4), (50, 8))):
        alone = MODEL.step(MODEL.start(1), tau, RATE, clients)
        np.testing.assert_allclose(together.mean[:, column], alone.mean[:, 0])
        np.testing.assert_allclose(together.variance[:, column], alone.variance[:, 0])


def test_a_rate_that_is_too_large_diverges_to_infinity_and_never_to_nan() -> None:
    """The loss of a run that blows up is infinite, and it stays that."""
    progress = MODEL.start(1)
    for _ in range(300):
        progress = MODEL.step(progress, 100, 1.0, 4)
    assert MODEL.loss(progress)[0] == np.inf


@pytest.mark.parametrize(
    "change",
    [
        {"curvatures": (1.0,)},
        {"curvatures": (1.0, 0.0, 1.0)},
        {"spread": 1.0},
        {"noise": float("nan")},
        {"heterogeneity": (1.0,)},
        {"initial_gaps": (0.0, 0.0, 0.0)},
    ],
)
def test_impossible_surfaces_are_refused(change: dict[str, object]) -> None:
    """Parameters that no loss surface has cannot be built."""
    with pytest.raises(InvalidConfig):
        msgspec.structs.replace(MODEL, **change)


def modelled_run(tau: int, num_rounds: int) -> Recording:
    """What the model itself would record."""
    progress, rounds = MODEL.start(1), []
    initial = float(MODEL.loss(progress)[0])
    for number in range(num_rounds):
        progress = MODEL.step(progress, tau, RATE, 8)
        rounds.append(RecordedRound(round=number, tau=tau, num_clients=8, loss=float(MODEL.loss(progress)[0])))
    return Recording(learning_rate=RATE, initial_loss=initial, rounds=tuple(rounds))


def test_a_fit_to_modelled_runs_predicts_other_taus() -> None:
    """Runs of the model's own kind are predicted to a few percent at taus between and beyond those fitted."""
    fitted = fit([modelled_run(tau, 30) for tau in (1, 5, 20)])
    assert error(fitted, [modelled_run(tau, 20) for tau in (2, 10, 40)]).mean_relative < 0.05


def test_predictions_are_the_steps_one_by_one() -> None:
    """Predicting several runs of different lengths at once changes nothing."""
    runs = [modelled_run(1, 3), modelled_run(9, 12)]
    for run, losses in zip(runs, predict(MODEL, runs), strict=True):
        np.testing.assert_allclose(losses, [record.loss for record in run.rounds])


def test_too_little_or_diverged_runs_are_not_fitted() -> None:
    """A typed error, not a meaningless model."""
    with pytest.raises(InvalidInput, match="at least"):
        fit([modelled_run(1, 3)])
    broken = modelled_run(1, 30)
    broken = msgspec.structs.replace(broken, rounds=(*broken.rounds[:-1], msgspec.structs.replace(broken.rounds[-1], loss=np.inf)))
    with pytest.raises(InvalidInput, match="diverged"):
        fit([broken])


@pytest.mark.slow
def test_real_federated_runs_are_followed_at_taus_that_were_not_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    """Digits, eight label-skewed clients: fitted to taus 2, 5 and 20, the loss at tau 10 is off by less than a fifth on average."""
    fitted = fit([record_run(tau, rounds) for tau, rounds in ((2, 40), (5, 16), (20, 6))])
    held_out = error(fitted, [record_run(10, 8)])
    with capsys.disabled():
        print(f"\nconvergence model on held-out tau 10: {held_out}")
    assert held_out.mean_relative < 0.2


def test_a_live_job_s_rounds_are_its_recording() -> None:
    """Clients are counted, bytes are those of the uplinks; a round that was not evaluated is refused."""
    live = RoundRecord(
        round=1, tau=5, at_s=1.0, clients=("a", "b"), loss=2.0, test_loss=1.5, compute_s=0.1, transfer_s=0.2, waiting_s=0.3,
        up_bytes=(10, 20), down_bytes=(30, 40),
    )  # fmt: skip
    recording = recording_of([live], learning_rate=0.1, initial_loss=2.3)
    expected = RecordedRound(
        round=0, tau=5, num_clients=2, loss=1.5, compute_s=0.1, transfer_s=0.2, waiting_s=0.3, up_bytes=10, down_bytes=30
    )
    assert recording.rounds == (expected,)
    with pytest.raises(InvalidInput, match="test loss"):
        recording_of([msgspec.structs.replace(live, test_loss=None)], learning_rate=0.1, initial_loss=2.3)


def test_a_recording_is_read_back_and_anything_else_refused(tmp_path: Path) -> None:
    """Whole or not at all: a torn, foreign or missing file is one typed error."""
    path, recording = tmp_path / "run.jsonl", modelled_run(3, 4)
    save_recording(recording, path)
    assert load_recording(path) == recording
    lines = path.read_bytes().splitlines(keepends=True)
    for torn in (b"", b"nonsense\n", b"".join(lines[:-1]) + lines[-1][:-9], lines[0] + lines[2]):
        path.write_bytes(torn)
        with pytest.raises(InvalidInput):
            load_recording(path)
    with pytest.raises(InvalidInput, match="cannot read"):
        load_recording(tmp_path / "nothing.jsonl")
