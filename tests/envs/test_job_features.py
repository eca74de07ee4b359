"""Features of the training job beside the requests, and what is read from them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.costs import build_cost_model, legal_decisions
from envs.features import Encoder, schema_of, state_size
from envs.job_features import JOB_FIELDS, PRIOR_INDEX, TAU_FIELDS
from envs.job_state import JOB_ROWS, job_column, job_view
from envs.job_traits import JobTraits
from envs.raw_state import RawState
from runtime.errors import InvalidInput, InvalidProfile
from runtime.messages import JobView
from tests.envs.busy import busy_scenario
from tests.envs.profiles import make_profile

TRAITS = JobTraits(taus=(1, 5, 20), tau=5, step_s=0.1, up_bytes=300_000, initial_loss=2.0)
VIEW = JobView(
    num_rounds=3, tau=5, num_steps=4, since_s=0.6, last_round_s=0.9, loss=1.0, loss_drop=0.25, drift=0.4, outstanding_bytes=0.0,
    tau_due=True,
)  # fmt: skip


def encoder(traits: JobTraits | None = TRAITS) -> Encoder:
    """For a few decisions."""
    scenario = busy_scenario()
    profile = make_profile(scenario)
    return Encoder(msgspec.structs.replace(build_cost_model(profile, scenario, legal_decisions(profile)[:5]), job=traits))


def idle(*views: JobView) -> RawState:
    """An idle system per view."""
    raw = RawState.empty(len(views) or 1)
    raw.deadline_s, raw.uplink_rate_bytes_per_s, raw.wan_rate_bytes_per_s = 0.3, 1e6, 1e6
    raw.job = np.concatenate([job_column(view) for view in views], axis=1) if views else None
    return raw


def test_a_view_comes_back_from_its_column() -> None:
    """Every field, whatever its type."""
    assert set(JOB_ROWS) == set(JobView.__struct_fields__)
    assert job_view(job_column(VIEW), 0) == VIEW
    observed = idle(VIEW).to_observation(0, request_id=1, model="m", at_s=0.0)
    assert observed.job == VIEW
    restored = RawState.from_observation(observed).job
    assert restored is not None
    np.testing.assert_array_equal(restored, job_column(VIEW))


def test_features_are_those_of_their_table_by_hand() -> None:
    """The state's and each tau's, at one place each."""
    features = encoder().encode(idle(VIEW))
    assert features.taus is not None
    state = dict(zip((field.name for field in JOB_FIELDS), features.state[0, -len(JOB_FIELDS) :].tolist(), strict=True))
    assert state["job_rounds"] == pytest.approx(np.log(4) / 2)
    assert state["job_steps"] == pytest.approx(0.8)
    assert state["job_since"] == pytest.approx(np.log(3) / 2)
    assert state["job_log_loss"] == pytest.approx(np.log(0.5) / 2)
    assert state["job_drift"] == pytest.approx(0.4)
    assert state["job_drop"] == pytest.approx(4 * 0.25 / 1.25)
    of_twenty = dict(zip((field.name for field in TAU_FIELDS), features.taus[0, 2].tolist(), strict=True))
    assert of_twenty["log_tau"] == pytest.approx(np.log(20) / 2)
    assert of_twenty["log_change"] == pytest.approx(np.log(4) / 2)
    assert of_twenty["send"] == pytest.approx(np.log(2) / 2)
    assert of_twenty["uplink_share"] == pytest.approx(0.3 / 2.3)
    assert features.taus[0, :, PRIOR_INDEX].argmin() == TRAITS.default_row


def test_features_lie_in_their_space() -> None:
    """Also where nothing is known, and where everything is as large as it gets."""
    wild = msgspec.structs.replace(VIEW, loss=1e30, loss_drop=-1e30, since_s=1e9, outstanding_bytes=1e12, tau=100, tau_due=False)
    for raw in (idle(), idle(VIEW), idle(wild)):
        one = encoder()
        features = {name: array[0] for name, array in one.encode(raw).as_dict().items()}
        assert one.space.contains(features)


def test_a_tau_is_chosen_where_one_is_due_and_nowhere_else() -> None:
    """Else the mask leaves the job's own alone; where there is no job there are no taus, and the state is what it was."""
    settled = msgspec.structs.replace(VIEW, tau_due=False)
    mask = encoder().encode(idle(VIEW, settled)).tau_mask
    assert mask is not None
    assert mask.tolist() == [[True, True, True], [False, True, False]]
    unseen = encoder().encode(idle()).tau_mask
    assert unseen is not None
    assert unseen.tolist() == [[False, True, False]]
    without, with_job = encoder(None), encoder()
    assert without.encode(idle()).taus is None
    assert schema_of(without.cost_model) != schema_of(with_job.cost_model)
    assert state_size(with_job.cost_model) - state_size(without.cost_model) == len(JOB_FIELDS)
    np.testing.assert_array_equal(without.encode(idle()).state, with_job.encode(idle(VIEW)).state[:, : -len(JOB_FIELDS)])


def test_observations_tell_of_a_job_or_do_not() -> None:
    """A mixture is refused."""
    told, untold = (raw.to_observation(0, request_id=1, model="m", at_s=0.0) for raw in (idle(VIEW), idle()))
    both = RawState.from_observations([told, told]).job
    assert both is not None
    assert both.shape == (len(JOB_ROWS), 2)
    with pytest.raises(InvalidInput, match="1 of 2"):
        RawState.from_observations([told, untold])


@pytest.mark.parametrize(
    "changes", [{"taus": ()}, {"taus": (5, 1)}, {"taus": (0, 5)}, {"tau": 7}, {"step_s": 0.0}, {"initial_loss": float("nan")}]
)
def test_traits_that_no_job_has_are_refused(changes: dict[str, object]) -> None:
    """A typed error, not features of nonsense."""
    with pytest.raises(InvalidProfile):
        msgspec.structs.replace(TRAITS, **changes)
