"""The model cache: one build, whole or absent, and no torch where nothing is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from runtime.errors import DrlctlError, InvalidConfig, InvalidDataset, MissingExtra, UnknownModel
from runtime.models.build import content_key, ensure_model, find_model
from runtime.models.examples import EXAMPLES_NAME
from runtime.models.fingerprints import code
from runtime.models.manifest import MANIFEST_NAME, load_manifest
from runtime.models.zoo import ZOO, ModelSpec

HEAVY = ("torch", "onnx", "onnxscript", "sklearn")


def run_python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def test_cache_hit_needs_no_torch(digits_model: Path) -> None:
    """Finding a built model and running it imports none of the packages that built it."""
    code = f"""
import sys
from pathlib import Path
from runtime.models.build import ensure_model
from runtime.models.examples import load_examples
from runtime.inference.engine import Engine
directory = ensure_model("digits-cnn")
engine = Engine(directory)
image = load_examples(directory, "test").images[0]
engine.run("int8", 0, engine.manifest.exit_ends[0], 0, [image])
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run_python(code).strip() == "[]"


def test_second_call_finds_the_first_build(tiny_spec: ModelSpec, tiny_cache: Path) -> None:
    """A model that is there is not built again, and progress hears nothing."""
    heard: list[str] = []
    directory = ensure_model(tiny_spec.name, tiny_cache, lambda phase, share: heard.append(phase))
    assert heard == []
    assert load_manifest(directory).model == tiny_spec.name


def test_interrupted_rebuild_of_a_torn_directory(tiny_spec: ModelSpec, tiny_cache: Path, tmp_path: Path) -> None:
    """A directory without its manifest is rebuilt; a build that dies half-way is invisible and the next one succeeds."""
    shutil.copytree(tiny_cache, tmp_path, dirs_exist_ok=True)
    directory = ensure_model(tiny_spec.name, tmp_path)
    (directory / MANIFEST_NAME).unlink()

    def interrupt(phase: str, share: float) -> None:
        if phase == "measuring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_model(tiny_spec.name, tmp_path, interrupt)
    assert not directory.exists()
    shares: list[float] = []
    assert ensure_model(tiny_spec.name, tmp_path, lambda phase, share: shares.append(share)) == directory
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert load_manifest(directory).model == tiny_spec.name
    assert not list(directory.parent.glob(".*.building"))


def test_directory_without_examples_is_not_taken(tiny_spec: ModelSpec, tiny_cache: Path, tmp_path: Path) -> None:
    """A manifest alone does not make a model: the examples must be there too."""
    shutil.copytree(tiny_cache, tmp_path, dirs_exist_ok=True)
    (ensure_model(tiny_spec.name, tmp_path) / EXAMPLES_NAME).unlink()

    def stop(phase: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_model(tiny_spec.name, tmp_path, stop)


@pytest.mark.parametrize("torn", ["fp32/weights.safetensors", "fp32/0-1.onnx", EXAMPLES_NAME])
def test_a_torn_directory_is_not_taken(tiny_spec: ModelSpec, tiny_cache: Path, tmp_path: Path, torn: str) -> None:
    """Every file must be there in its length, so that what a full disk cut off is built again."""
    shutil.copytree(tiny_cache, tmp_path, dirs_exist_ok=True)
    directory = find_model(tiny_spec.name, tmp_path)
    assert directory is not None
    path = next(path for path in (directory / torn, *sorted(directory.glob("fp32/*.onnx"))) if path.is_file())
    path.write_bytes(path.read_bytes()[:-30])
    assert find_model(tiny_spec.name, tmp_path) is None


def test_concurrent_callers_share_one_build(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    """Of several callers at once, one builds, and all get the same whole directory."""
    finished: list[str] = []
    found: list[Path] = []

    def call() -> None:
        found.append(ensure_model(tiny_spec.name, tmp_path, lambda phase, share: finished.append(phase) if share == 1 else None))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert finished == ["done"]
    assert len(found) == 3
    assert len(set(found)) == 1


def test_dataset_that_does_not_exist_is_refused(tiny_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A specification's data must be there, and data without epochs is no training."""
    monkeypatch.setitem(ZOO, "tiny", msgspec.structs.replace(tiny_spec, dataset="letters"))
    with pytest.raises(InvalidDataset, match="no data set 'letters'"):
        ensure_model("tiny", tmp_path)
    with pytest.raises(InvalidConfig, match="belong together"):
        ModelSpec(name="x", factory="a:b", arguments={}, input=tiny_spec.input, variants=("fp32",), dataset="digits")


def test_unknown_name_lists_the_zoo(tmp_path: Path) -> None:
    """A name that the zoo does not have is refused with those it has."""
    with pytest.raises(UnknownModel, match="digits-cnn"):
        ensure_model("digits", tmp_path)


def test_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    """Without torch, building asks for the extra instead of failing on an import."""
    code = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from runtime.models.build import ensure_model
try:
    ensure_model("digits-cnn", Path(sys.argv[1]))
except Exception as exc:
    print(type(exc).__name__, exc)
"""
    assert run_python(code, str(tmp_path)).strip() == "MissingExtra building a model needs torch: pip install 'drlctl[train]'"
    assert issubclass(MissingExtra, DrlctlError)


def test_key_follows_the_specification(tiny_spec: ModelSpec) -> None:
    """Another specification is another cache entry."""
    assert content_key(tiny_spec) != content_key(ZOO["digits-cnn"])
    assert content_key(tiny_spec) == content_key(tiny_spec)


def test_key_ignores_comments_and_docstrings() -> None:
    """Only code decides what a built model is."""
    plain = code("def f(x):\n    return x\n")
    assert code('"""Doc."""\ndef f(x):\n    """More."""\n    return x  # why\n') == plain
    assert code("def f(x):\n    return x + 1\n") != plain
