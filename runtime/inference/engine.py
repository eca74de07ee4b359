"""Run segments of a model on ONNX Runtime.

Sessions are made when first needed, from bytes that match the manifest's hashes, and kept until they are unloaded.  A
variant's weights are read once and handed to each of its sessions, which hold their graphs only; they go with the last of
them.  One thread computes
one request: nodes own one core each, and two libraries with two threads each are five times slower on two cores.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from runtime.errors import InvalidTensor, UnknownModel
from runtime.inference.batching import stack, unstack
from runtime.messages import TensorSpec, Tier
from runtime.models.manifest import Manifest, StoredFile, VariantInfo, load_manifest, read_stored, segment_key


class ModelFiles(Protocol):
    """A model, and where its files are read."""

    manifest: Manifest

    def read(self, file: StoredFile) -> bytes:
        """A file's bytes, verified.  Raises UnknownModel."""


class ModelFolder:
    """A model directory.  Raises UnknownModel when it holds no model."""

    def __init__(self, directory: Path) -> None:
        self.manifest, self._directory = load_manifest(directory), directory

    def read(self, file: StoredFile) -> bytes:
        """A file's bytes, verified.  Raises UnknownModel."""
        return read_stored(self._directory, file)


class Engine:
    """The segments of one model, in a directory or wherever its files are, ready to run from any thread.

    Raises UnknownModel when the directory holds no model.
    """

    def __init__(self, source: Path | ModelFiles, num_threads: int = 1) -> None:
        self._files: ModelFiles = ModelFolder(source) if isinstance(source, Path) else source
        self.manifest = self._files.manifest
        self._num_threads = num_threads
        self._weights: dict[str, dict[str, ort.OrtValue]] = {}
        self._runners: dict[tuple[str, int, int, int | None], _Runner] = {}
        self._loading = threading.Lock()

    def preload(self, tier: Tier | None = None, variant: str | None = None) -> None:
        """Make the sessions of every segment that decisions can give to the tier (default: of all) now, or of one variant only.

        Raises UnknownModel.
        """
        for name in self.manifest.variants if variant is None else [variant]:
            early_exit = bool(self._info(name).exit_thresholds)
            for segment in self.manifest.segments(tier, early_exit=early_exit):
                self._runner(name, *segment)

    def load(self, variant: str, start: int, stop: int, exit: int | None) -> None:
        """Make one segment ready to run.  Raises UnknownModel, MissingFile of it when a file is not to be read."""
        self._runner(variant, start, stop, exit)

    def unload(self, variant: str, start: int, stop: int, exit: int | None) -> None:
        """Free one segment, and its variant's weights with the last one; nothing happens when it is not loaded."""
        with self._loading:
            self._runners.pop((variant, start, stop, exit), None)
            if all(loaded[0] != variant for loaded in self._runners):
                self._weights.pop(variant, None)

    def run(self, variant: str, start: int, stop: int, exit: int | None, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Stages [start, stop) and then exit's head, if any: tensors of cut `start` -> tensors of cut `stop`, or [logits].

        Raises InvalidTensor unless the inputs have exactly the cut's shapes and dtypes and are finite,
        UnknownModel when there is no such segment or its file is not what the manifest says.
        """
        return self._runner(variant, start, stop, exit).run(tensors)

    def run_batch(
        self, variant: str, start: int, stop: int, exit: int | None, rows: Sequence[Sequence[np.ndarray]]
    ) -> list[list[np.ndarray]]:
        """`run` for several requests at once: their tensors of cut `start` -> for each, its tensors of cut `stop`, as views.

        A segment whose batch axis is fixed runs them one after another.  Raises like `run`, for all when one row is bad.
        """
        return self._runner(variant, start, stop, exit).run_batch(rows)

    def _runner(self, variant: str, start: int, stop: int, exit: int | None) -> _Runner:
        runner = self._runners.get((variant, start, stop, exit))
        if runner is not None:
            return runner
        with self._loading:
            key = (variant, start, stop, exit)
            if key not in self._runners:
                self._runners[key] = self._load(variant, start, stop, exit)
            return self._runners[key]

    def _load(self, variant: str, start: int, stop: int, exit: int | None) -> _Runner:
        info = self._info(variant)
        segment = info.segments.get(segment_key(start, stop, exit))
        if segment is None:
            wanted = f"stages {start}..{stop}" + ("" if exit is None else f" and exit {exit}")
            raise UnknownModel(f"{self.manifest.model}/{variant} has no segment for {wanted}; exits end at {self.manifest.exit_ends}")
        options = _session_options(self._num_threads)
        if segment.weights:
            values = self._shared_weights(variant, info)
            if not values.keys() >= set(segment.weights):
                raise UnknownModel(
                    f"{self.manifest.model}/{variant} has no weights {set(segment.weights) - values.keys()}; rebuild the model"
                )
            options.add_external_initializers(list(segment.weights), [values[name] for name in segment.weights])
        data = self._files.read(segment)
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return _Runner(session, info.cuts[start], f"{self.manifest.model}/{variant} cut {start}", self._weights.get(variant))

    def _shared_weights(self, variant: str, info: VariantInfo) -> dict[str, ort.OrtValue]:
        """A variant's weights, read and verified the first time; sessions refer to their memory, so they are kept."""
        if variant not in self._weights:
            data = self._files.read(info.weights) if info.weights is not None else b""
            try:
                arrays = load_tensors(data) if data else {}
            except SafetensorError as exc:
                raise UnknownModel(f"the weights of {self.manifest.model}/{variant} are not safetensors: {exc}; rebuild the model") from exc
            self._weights[variant] = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        return self._weights[variant]

    def _info(self, variant: str) -> VariantInfo:
        if variant not in self.manifest.variants:
            raise UnknownModel(f"variant {variant!r} of {self.manifest.model!r} does not exist; there is {sorted(self.manifest.variants)}")
        return self.manifest.variants[variant]


class _Runner:
    """One session, what it must be fed, and the weights whose memory it refers to."""

    __slots__ = ("_any_batch", "_cut", "_dtypes", "_floats", "_inputs", "_outputs", "_session", "_shapes", "_specs", "_weights")

    def __init__(
        self, session: ort.InferenceSession, specs: tuple[TensorSpec, ...], cut: str, weights: dict[str, ort.OrtValue] | None
    ) -> None:
        self._session, self._weights = session, weights
        self._specs = specs
        self._cut = cut
        self._inputs = [value.name for value in session.get_inputs()]
        self._any_batch = all(value.shape and not isinstance(value.shape[0], int) for value in session.get_inputs())
        self._outputs = [value.name for value in session.get_outputs()]
        self._shapes = [spec.shape for spec in specs]
        self._dtypes = [np.dtype(spec.dtype) for spec in specs]
        self._floats = [index for index, dtype in enumerate(self._dtypes) if dtype.kind == "f"]

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._check(tensors)
        return self._compute(tensors)

    def run_batch(self, rows: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        if not self._any_batch:
            return [self.run(row) for row in rows]
        stacked = stack(rows, self._specs)
        self._check_finite(stacked)
        return unstack(self._compute(stacked), len(rows))

    def _check(self, tensors: Sequence[np.ndarray]) -> None:
        if [tensor.shape for tensor in tensors] != self._shapes or [tensor.dtype for tensor in tensors] != self._dtypes:
            want = ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in self._specs)
            got = ", ".join(f"{tensor.dtype}{list(tensor.shape)}" for tensor in tensors) or "nothing"
            raise InvalidTensor(f"{self._cut} carries {want}; got {got}")
        self._check_finite(tensors)

    def _check_finite(self, tensors: Sequence[np.ndarray]) -> None:
        for index in self._floats:
            if not np.isfinite(tensors[index]).all():
                raise InvalidTensor(f"{self._cut}: tensor {index} holds NaN or infinity")

    def _compute(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._session.run(self._outputs, dict(zip(self._inputs, tensors, strict=True)))
        return outputs


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits [..., C] -> probabilities of the same shape, float32; huge logits do not overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    return options
