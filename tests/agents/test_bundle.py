"""A bundle comes back as it was saved, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from agents.bundle import MANIFEST_NAME, MAX_MANIFEST_BYTES, WEIGHTS_NAME, BundleManifest, load_bundle, save_bundle
from envs.costs import PER_WAY
from runtime.errors import InvalidBundle
from runtime.profile import Overheads
from tests.agents.bundles import cost_models, make_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved bundle."""
    save_bundle(make_bundle(), tmp_path / "bundle")
    return tmp_path / "bundle"


def _reseal(path: Path, **changes: Any) -> None:
    """Change a manifest as somebody would who also fixes its digest."""
    manifest = json.loads((path / MANIFEST_NAME).read_bytes())
    manifest.update(changes, digest="")
    # The digest is over the decoded manifest, as the loader computes it.
    decoded = msgspec.convert(manifest, BundleManifest)
    digest = hashlib.sha256(msgspec.json.encode(decoded, order="deterministic")).hexdigest()
    (path / MANIFEST_NAME).write_bytes(msgspec.json.encode(msgspec.structs.replace(decoded, digest=digest)))


def _reseal_weights(path: Path, arrays: dict[str, np.ndarray]) -> None:
    data = save(arrays)
    (path / WEIGHTS_NAME).write_bytes(data)
    _reseal(path, weights_sha256=hashlib.sha256(data).hexdigest())


def test_a_bundle_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Manifest and every weight are equal after saving and loading."""
    saved = save_bundle(make_bundle(seed=3), tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.manifest == saved.manifest
    assert loaded.arrays.keys() == saved.arrays.keys()
    for name, array in saved.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)


def test_replacing_leaves_exactly_the_new_bundle(path: Path) -> None:
    """The new bundle is there whole, and nothing of the old one."""
    save_bundle(make_bundle(seed=9), path)
    np.testing.assert_array_equal(load_bundle(path).arrays["hidden_weight"], make_bundle(seed=9).arrays["hidden_weight"])
    assert sorted(entry.name for entry in path.iterdir()) == [MANIFEST_NAME, WEIGHTS_NAME]
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle"]


def test_flipping_any_byte_never_loads_other_weights_or_facts(path: Path) -> None:
    """One flipped bit, anywhere: refused, or (in white space only) exactly the same bundle."""
    original = load_bundle(path)
    rng = np.random.default_rng(0)
    for name in (MANIFEST_NAME, WEIGHTS_NAME):
        data = (path / name).read_bytes()
        offsets = set(rng.integers(len(data), size=300).tolist()) | set(range(min(len(data), 64)))
        for offset in sorted(offsets):
            damaged = bytearray(data)
            damaged[offset] ^= 1 << int(rng.integers(8))
            (path / name).write_bytes(damaged)
            try:
                loaded = load_bundle(path)
            except InvalidBundle:
                continue
            assert loaded.manifest == original.manifest, f"{name} byte {offset}"
            assert all((loaded.arrays[key] == array).all() for key, array in original.arrays.items())
        (path / name).write_bytes(data)


WRONG: dict[str, object] = {
    "way_share": (0.0,), "expected_error": (1.5,), "way_exit": (3,), "exit_ends": (), "result_bytes": -1.0,
    "overheads": Overheads(base_s=-0.001), "way_decision": (1,),
}  # fmt: skip
"""Field -> what it may not be, or, of one with an entry per way, what its first may not be."""


@pytest.mark.parametrize("field", WRONG)
def test_facts_that_cannot_be_are_refused(path: Path, field: str) -> None:
    """A cost model under right digests whose numbers mean nothing is no bundle, and nothing fails later for it."""
    manifest = load_bundle(path).manifest
    wrong = WRONG[field]
    if field in PER_WAY:
        wrong = (*wrong, *getattr(manifest.cost_model, field)[1:])  # type: ignore[misc]
    facts = json.loads(msgspec.json.encode(manifest.cost_model)) | {field: msgspec.to_builtins(wrong)}
    text = json.loads(msgspec.json.encode(manifest)) | {"cost_model": facts}
    (path / MANIFEST_NAME).write_text(json.dumps(text))
    with pytest.raises(InvalidBundle, match="cost model"):
        load_bundle(path)


def test_features_that_are_not_here_are_refused() -> None:
    """The network of a scenario without models to load cannot take the features of one with them."""
    every, _ = cost_models()
    bundle = make_bundle()
    bundle.check_features(every)
    with pytest.raises(InvalidBundle, match="trained on features"):
        bundle.check_features(msgspec.structs.replace(every, load_s=((0.05, 0.05, 0.05),) * every.num_decisions))


def test_what_it_was_trained_for_is_told() -> None:
    """Another scenario and each weight of another objective, in words; nothing where both are the same."""
    every, _ = cost_models()
    bundle = make_bundle()
    assert bundle.other_origin("congested", every) == []
    dearer = msgspec.structs.replace(every, objective=msgspec.structs.replace(every.objective, latency_per_s=8.0))
    assert bundle.other_origin("calm", dearer) == [
        "the bundle was trained for scenario 'congested', here it is 'calm'",
        "the bundle was trained for objective.latency_per_s = 4, here it is 8",
    ]


@pytest.mark.parametrize("name", [MANIFEST_NAME, WEIGHTS_NAME])
@pytest.mark.parametrize("size", [0, 1, 100])
def test_truncated_files_are_refused(path: Path, name: str, size: int) -> None:
    """A file cut short is no bundle."""
    (path / name).write_bytes((path / name).read_bytes()[:size])
    with pytest.raises(InvalidBundle):
        load_bundle(path)


@given(garbage=st.binary(max_size=400) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=150)
def test_garbage_manifests_are_refused(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    """Whatever the manifest holds, the answer is InvalidBundle and nothing else."""
    path = tmp_path_factory.mktemp("garbage")
    (path / MANIFEST_NAME).write_bytes(garbage)
    (path / WEIGHTS_NAME).write_bytes(b"")
    with pytest.raises(InvalidBundle):
        load_bundle(path)


_JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})


@given(data=st.data())
@settings(max_examples=150)
def test_manifests_with_one_wrong_value_are_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Replacing any one value gives InvalidBundle, or the same bundle where the value meant the same."""
    path = tmp_path_factory.mktemp("wrong") / "bundle"
    saved = save_bundle(make_bundle(), path)
    manifest = json.loads((path / MANIFEST_NAME).read_bytes())
    key = data.draw(st.sampled_from(sorted(manifest)))
    inner = manifest[key]
    value = data.draw(_JSON)
    if isinstance(inner, dict) and inner and data.draw(st.booleans()):
        inner[data.draw(st.sampled_from(sorted(inner)))] = value
    else:
        manifest[key] = value
    (path / MANIFEST_NAME).write_bytes(json.dumps(manifest).encode())
    try:
        loaded = load_bundle(path)
    except InvalidBundle:
        return
    assert loaded.manifest == saved.manifest


def test_deeply_nested_manifests_are_refused(path: Path) -> None:
    """Nesting that exhausts the decoder's recursion is InvalidBundle too."""
    (path / MANIFEST_NAME).write_bytes(b'{"cost_model":' + b"[" * 100_000)
    with pytest.raises(InvalidBundle):
        load_bundle(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 1}, "schema"),
        ({"feature_schema": "somethingelse"}, "features"),
        ({"catalogue_digest": "0" * 64}, "catalogue"),
        ({"weights_sha256": "0" * 64}, "corrupt"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(path: Path, changes: dict[str, Any], says: str) -> None:
    """A manifest that is whole but made for something else says what does not fit."""
    _reseal(path, **changes)
    with pytest.raises(InvalidBundle, match=says):
        load_bundle(path)


def test_a_network_of_other_sizes_is_refused(path: Path) -> None:
    """The network must take the features that this version computes."""
    network = msgspec.to_builtins(load_bundle(path).manifest.network)
    _reseal(path, network={**network, "state_size": network["state_size"] + 1})
    with pytest.raises(InvalidBundle, match="sizes"):
        load_bundle(path)


@pytest.mark.parametrize("damage", ["missing", "extra", "renamed", "dtype", "shape", "nan", "inf", "kappa"])
def test_wrong_tensors_are_refused_even_with_the_right_digest(path: Path, damage: str) -> None:
    """Names, dtypes, shapes, finiteness: exactly what the shape says, nothing else."""
    arrays = {name: array.copy() for name, array in load_bundle(path).arrays.items()}
    match damage:
        case "missing":
            del arrays["hidden_bias"]
        case "extra":
            arrays["more"] = np.zeros(1, np.float32)
        case "renamed":
            arrays["hidden_bias2"] = arrays.pop("hidden_bias")
        case "dtype":
            arrays["hidden_bias"] = arrays["hidden_bias"].astype(np.float64)
        case "shape":
            arrays["hidden_bias"] = arrays["hidden_bias"][None]
        case "nan":
            arrays["hidden_weight"][0, 0] = np.nan
        case "inf":
            arrays["hidden_weight"][0, 0] = np.inf
        case "kappa":
            arrays["kappa"] = np.array(-1.0, np.float32)
    _reseal_weights(path, arrays)
    with pytest.raises(InvalidBundle, match=r"tensors|hidden_|kappa"):
        load_bundle(path)


def test_oversized_files_are_refused_before_they_are_read(path: Path) -> None:
    """A sparse file of a terabyte costs nothing but the refusal."""
    with (path / MANIFEST_NAME).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidBundle, match=str(MAX_MANIFEST_BYTES)):
        load_bundle(path)


def test_pipes_and_folders_are_refused_without_hanging(path: Path) -> None:
    """Only regular files are read."""
    (path / MANIFEST_NAME).unlink()
    os.mkfifo(path / MANIFEST_NAME)
    with pytest.raises(InvalidBundle, match="regular"):
        load_bundle(path)
    (path / MANIFEST_NAME).unlink()
    (path / MANIFEST_NAME).mkdir()
    with pytest.raises(InvalidBundle, match="regular"):
        load_bundle(path)


def test_a_missing_bundle_says_what_a_bundle_is(tmp_path: Path) -> None:
    """The message names the two files."""
    with pytest.raises(InvalidBundle, match=WEIGHTS_NAME):
        load_bundle(tmp_path / "nowhere")


def test_another_catalogue_is_refused(path: Path) -> None:
    """A bundle decides only for the catalogue that it was trained for."""
    bundle = load_bundle(path)
    bundle.check_catalogue(bundle.manifest.catalogue_digest)
    with pytest.raises(InvalidBundle, match="catalogue"):
        bundle.check_catalogue("0" * 64)
