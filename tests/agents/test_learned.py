"""The deployed policy is the trained one, needs no torch, and says when it cannot decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from agents.bundle import load_bundle, save_bundle
from agents.learned import BundlePolicy
from agents.policy import NoDecision
from agents.scoring import CandidateScorer
from envs.features import Encoder
from envs.raw_state import RawState
from tests.agents.bundles import cost_models, make_bundle, record_observations
from tests.envs.profiles import make_observation

NUM_RECORDED = 10_000


def test_deployed_and_trained_network_decide_alike_on_recorded_observations() -> None:
    """On 10,000 observations of the simulator, numpy's best candidate is torch's (or ties with it to rounding)."""
    bundle = make_bundle(seed=5)
    scorer = CandidateScorer(bundle.manifest.network, kappa=float(bundle.arrays["kappa"]))
    _load_arrays(scorer, bundle.arrays)
    policy = BundlePolicy(bundle)
    _, cost_model = cost_models()
    observations = record_observations(NUM_RECORDED)
    features = Encoder(cost_model).encode(RawState.from_observations(observations))
    tensors = {name: torch.as_tensor(array.astype(np.float32)) for name, array in features.as_dict().items()}
    with torch.no_grad():
        scores = scorer(tensors).numpy()
    expected = scores.argmax(axis=1)
    decided = np.array([cost_model.find(policy.decide(observation)) for observation in observations])
    rows = np.flatnonzero(decided != expected)
    gaps = scores[rows, expected[rows]] - scores[rows, decided[rows]]
    assert len(rows) <= NUM_RECORDED // 1000
    assert (gaps <= 1e-4 * np.abs(scores[rows]).max(axis=1, initial=1.0)).all()
    assert len(set(decided.tolist())) > 3, "the comparison would be trivial"


def _load_arrays(scorer: CandidateScorer, arrays: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        scorer.from_state.weight.copy_(torch.as_tensor(arrays["state_weight"]))
        scorer.from_state.bias.copy_(torch.as_tensor(arrays["state_bias"]))
        scorer.from_candidate.weight.copy_(torch.as_tensor(arrays["candidate_weight"]))
        scorer.hidden.weight.copy_(torch.as_tensor(arrays["hidden_weight"]))
        scorer.hidden.bias.copy_(torch.as_tensor(arrays["hidden_bias"]))
        scorer.output.weight.copy_(torch.as_tensor(arrays["output_weight"] / arrays["kappa"])[None])


def test_deciding_imports_neither_torch_nor_stable_baselines3(tmp_path: Path) -> None:
    """A process that loads a bundle and decides stays without the training libraries."""
    save_bundle(make_bundle(), tmp_path / "bundle")
    (tmp_path / "observation.json").write_bytes(msgspec.json.encode(make_observation()))
    code = f"""
import sys, msgspec
from pathlib import Path
from agents.bundle import load_bundle
from agents.learned import BundlePolicy
from agents.heuristics import HEURISTICS
from runtime.messages import Observation
observation = msgspec.json.decode(Path({str(tmp_path / "observation.json")!r}).read_bytes(), type=Observation)
BundlePolicy(load_bundle(Path({str(tmp_path / "bundle")!r}))).decide(observation)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "stable_baselines3", "pickle")))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch" not in done.stdout
    assert "stable_baselines3" not in done.stdout


def test_another_model_gets_no_decision() -> None:
    """A bundle says so when it is asked about a model that it was not trained for."""
    with pytest.raises(NoDecision, match="model"):
        BundlePolicy(make_bundle()).decide(make_observation(model="another"))


@pytest.mark.parametrize(
    ("name", "value"), [("output_weight", np.inf), ("output_weight", np.nan), ("hidden_bias", np.nan), ("kappa", np.nan)]
)
def test_weights_that_are_not_finite_get_no_decision(name: str, value: float) -> None:
    """Should a network go bad in memory, the policy raises NoDecision instead of choosing at random."""
    bundle = make_bundle()
    bundle.arrays[name][...] = value
    with pytest.raises(NoDecision, match="finite"), np.errstate(all="ignore"):
        BundlePolicy(bundle).decide(make_observation(edge__backlog_s=0.1))


def test_a_saved_policy_decides_as_before(tmp_path: Path) -> None:
    """Saving and loading changes no decision."""
    bundle = make_bundle(seed=2)
    save_bundle(bundle, tmp_path / "bundle")
    before, after = BundlePolicy(bundle), BundlePolicy(load_bundle(tmp_path / "bundle"))
    for observation in record_observations(300):
        assert before.decide(observation) == after.decide(observation)
