"""`python -m benchmarks.compression DATA OUT`: every form and variant of a small multi-exit ResNet on 28x28 pictures.

DATA is a directory that `load_dataset` reads, such as Fashion-MNIST's four files; models are left in OUT.  Takes about half
an hour on one core, and is therefore not among those that `make bench` runs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from runtime.inference.confidence import calibrate_thresholds, normalised_entropy, take_exits
from runtime.models.compression import FORMS, Trained
from runtime.models.counting import count_flops, count_parameters
from runtime.models.datasets import load_dataset
from runtime.models.datasets.splitting import SplitSpec
from runtime.models.examples import Examples
from runtime.models.exits import add_exits, find_places
from runtime.models.fitting import seeded, train_network
from runtime.models.logits import exit_logits
from runtime.models.pixels import PixelInput
from runtime.models.staged import StagedGraph
from runtime.models.variants import VARIANTS
from runtime.models.zoo import FitSpec

CHANNELS = 24
FIT = FitSpec(epochs=10, batch_size=128, learning_rate=8e-3, max_shift_pixels=1)
EXIT_WEIGHTS = (0.3, 0.6, 1.0)
MAX_LOSSES = (0.0, 0.005, 0.01)


class Block(nn.Module):
    """Two 3x3 convolutions and a skip connection."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        project = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.skip = nn.Identity() if stride == 1 and inside == out else project

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(x)) + self.skip(x))


def plain(width: float, num_classes: int) -> nn.Module:
    """A ResNet of three blocks that knows nothing of exits."""
    channels = [round(CHANNELS * width * factor) for factor in (1, 2, 4)]
    stem = nn.Sequential(nn.Conv2d(1, channels[0], 5, 2, 2, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU())
    blocks = [Block(channels[0], channels[0], 1), Block(channels[0], channels[1], 2), Block(channels[1], channels[2], 2)]
    return PixelInput(nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[2], num_classes)))


def export(network: nn.Module, example: torch.Tensor) -> StagedGraph:
    """The whole network as one stage, with one output per exit."""
    program = torch.onnx.export(network.eval(), (example,), dynamo=True, verbose=False, opset_version=18, input_names=["image"])
    assert program is not None
    model = program.model_proto
    outputs = [output.name for output in model.graph.output]
    return StagedGraph(model, [["image"]], outputs, [0] * len(outputs))


def measure(model: onnx.ModelProto, test: Examples) -> tuple[list[float], float]:
    """Accuracy of each exit, and the median seconds of one picture through all of them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers, seconds = [], []
    for image in test.images:
        started_at_s = time.perf_counter()
        logits = session.run(None, {"image": image})
        seconds.append(time.perf_counter() - started_at_s)
        answers.append([branch.argmax() for branch in logits])
    right = np.array(answers) == test.labels[:, None]
    return right.mean(axis=0).tolist(), float(np.median(seconds))


def report_exits(trained: Trained, places: list[float], validation: Examples, test: Examples) -> None:
    """Thresholds calibrated on validation, and what they give on the test part; a request costs its share of the FLOPs."""
    costs = [*places, 1.0]
    seen = [exit_logits(trained.network, part.images) for part in (validation, test)]
    right = [logits.argmax(axis=2) == part.labels for logits, part in zip(seen, (validation, test), strict=True)]
    entropies = [normalised_entropy(logits) for logits in seen]
    for loss in MAX_LOSSES:
        thresholds = calibrate_thresholds(entropies[0], right[0], costs, loss)
        taken = take_exits(entropies[1], thresholds)
        accuracy = right[1][taken, np.arange(len(taken))].mean()
        shares = np.bincount(taken, minlength=len(costs)) / len(taken)
        print(
            f"exits by confidence, loss <= {loss:.3f} on validation: thresholds {np.round(thresholds, 4).tolist()}, "
            f"test accuracy {accuracy:.4f}, compute {shares @ costs:.2f}, leaving at each exit {np.round(shares, 2).tolist()}",
            flush=True,
        )


def report_form(name: str, network: nn.Module, trained: Trained, test: Examples, out: Path) -> dict[str, list[float]]:
    """Variant -> test accuracy of each exit."""
    graph = export(network, trained.example)
    print(f"{name}: {count_parameters(network)} parameters, {count_flops(network, trained.example)} FLOPs", flush=True)
    found = {}
    for variant, make in VARIANTS.items():
        model = make(graph, trained.train.images).model
        found[variant], seconds = measure(model, test)
        path = out / f"{name}-{variant}.onnx"
        onnx.save(model, path)
        exits = " ".join(f"{accuracy:.4f}" for accuracy in found[variant])
        print(f"  {variant:5} test accuracy {exits}   {path.stat().st_size} bytes   {seconds * 1e6:.0f} us", flush=True)
    return found


def run(source: str, out: Path) -> dict[str, dict[str, list[float]]]:
    """Form -> variant -> test accuracy of each exit."""
    out.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(source, SplitSpec(validation_fraction=0.05))
    train, validation, test = (dataset.splits[split] for split in ("train", "validation", "test"))
    example = torch.from_numpy(train.images[0])

    def factory(width: float) -> nn.Module:
        return add_exits(plain(width, len(dataset.classes)), example, at=2).to(memory_format=torch.channels_last)

    with seeded(FIT.seed):
        network = factory(1.0)
    places = [place.compute_fraction for place in find_places(plain(1.0, len(dataset.classes)), example)[-2:]]
    trained = Trained(network=network, factory=factory, train=train, fit=FIT, exit_weights=EXIT_WEIGHTS, flip=True)
    started_at_s = time.perf_counter()
    train_network(network, train, FIT, exit_weights=EXIT_WEIGHTS, flip=True)
    report_exits(trained, places, validation, test)
    found = {}
    for name, form in FORMS.items():
        smaller = form(trained, None)
        print(f"-- {name} after {time.perf_counter() - started_at_s:.0f} s", flush=True)
        found[name] = report_form(name, smaller, trained, test, out)
    return found


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
