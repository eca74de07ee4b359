"""Networks from specifications: what is trained once comes back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from runtime.messages import TensorSpec
from runtime.models.forms import DENSE, make_forms
from runtime.models.zoo import FitSpec, ModelSpec
from tests.runtime.models.small_networks import SIDE, stripes


class RandomFeatures(nn.Module):
    """Fixed random features, which are not in the state dict, and a classifier of them."""

    def __init__(self) -> None:
        super().__init__()
        self.features: torch.Tensor
        self.register_buffer("features", torch.randn(SIDE * SIDE, 16) / SIDE, persistent=False)
        self.classify = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 [N, 1, H, W] -> logits [N, 3]"""
        logits: torch.Tensor = self.classify(torch.cos(image.flatten(1) @ self.features))
        return logits


def test_kept_weights_meet_the_network_that_they_were_trained_in(tmp_path: Path) -> None:
    """What the factory draws beside the weights is drawn again as it was, whatever was drawn meanwhile."""
    train = stripes(60, 1)
    spec = ModelSpec(
        name="features",
        factory=f"{__name__}:RandomFeatures",
        arguments={},
        input=TensorSpec(shape=(1, 1, SIDE, SIDE), dtype="uint8"),
        variants=("fp32",),
        dataset="stripes",
        fit=FitSpec(epochs=1, seed=3),
        scale_pixels=True,
    )
    image = torch.from_numpy(train.images[0])
    answers = []
    for _ in range(2):
        torch.rand(7)
        network = make_forms(spec, 3, train, tmp_path / "kept.safetensors", lambda *heard: None)[DENSE].network
        with torch.no_grad():
            answers.append(np.asarray(network(image)[0]))
    np.testing.assert_array_equal(answers[0], answers[1])
