"""An attack on what crosses a cut: a decoder that has learnt to paint the input from it.  Needs the `train` extra.

Who attacks: somebody who sees the tensors of the cut, can run the head of the network on pictures of their own (or
holds pairs of both), and has pictures of the same distribution as the victims', none of them the victims'.  They train
an inverse network on pairs (activation, picture), and apply it to what they see.  They need neither the head's weights
nor gradients through it.

    pictures of their own --head--> [codec] --decoder--> guess        loss: mean squared error
    unseen pictures       --head--> [codec] --decoder--> guess        judged: NMSE and SSIM against the picture

A decoder's failure is no proof of privacy: a larger one, or more pictures, may do better.

Source: He, Zhang, Lee, "Model inversion attacks against collaborative inference", ACSAC 2019, section 5 (black-box
attack by an inverse network).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidConfig
from runtime.models.fitting import seeded
from runtime.models.pixels import WHITE

BLOCK = 4
"""The decoder works on a grid so many times coarser than the picture and paints a block of pixels per cell."""


class AttackSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the decoder is trained."""

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    """Peak of a one-cycle schedule.  Source: Smith & Topin, arXiv:1708.07120."""
    width: int = 32
    """Channels of the decoder."""
    max_pictures: int = 1100
    """The attacker's own pictures are no more than so many, the first ones."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.width, self.max_pictures) < 1 or not 0 < self.learning_rate < math.inf:
            raise InvalidConfig(f"an attack needs positive epochs, batch size, width, pictures and learning rate, got {self}")


class Decoder(nn.Module):
    """Tensors of a cut, float32 [N, ...] each -> picture [N, C, H, W], values about 0..1."""

    def __init__(self, shapes: list[tuple[int, ...]], picture: tuple[int, int, int], width: int) -> None:
        super().__init__()
        channels, self.height, self.width = picture
        self.grid = (math.ceil(self.height / BLOCK), math.ceil(self.width / BLOCK))
        self.entrances = nn.ModuleList([_entrance(shape, self.grid, width) for shape in shapes])
        self.body = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, channels * BLOCK**2, 3, padding=1), nn.PixelShuffle(BLOCK),
        )  # fmt: skip

    def forward(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """See the class."""
        entered = [entrance(tensor) for entrance, tensor in zip(self.entrances, tensors, strict=True)]
        cells = sum(functional.interpolate(cells, self.grid, mode="bilinear") for cells in entered)
        painted: torch.Tensor = self.body(cells)
        return painted[:, :, : self.height, : self.width]


def _entrance(shape: tuple[int, ...], grid: tuple[int, int], width: int) -> nn.Module:
    """From one tensor to `width` feature maps: by convolution where it is spatial and not tiny, else from all of it at once."""
    if len(shape) == 3 and min(shape[1:]) * 2 >= max(grid):
        stride = max(1, round(shape[1] / grid[0]))
        return nn.Conv2d(shape[0], width, 2 * stride + 1, stride, padding=stride)
    side = (math.ceil(grid[0] / 2), math.ceil(grid[1] / 2))
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width * math.prod(side)), nn.Unflatten(1, (width, *side)))


class Attacker:
    """A trained decoder of one cut."""

    def __init__(self, crossing: list[np.ndarray], pictures: np.ndarray, spec: AttackSpec) -> None:
        """Train on what crosses for the attacker's own pictures: tensors [N, ...] and uint8 [N, C, H, W].

        The same arguments give the same decoder.  Raises InvalidConfig when the pictures do not fill one batch.
        """
        if len(pictures) < spec.batch_size:
            raise InvalidConfig(f"{len(pictures)} pictures do not fill one batch of {spec.batch_size}")
        self._scales = [(tensor.mean(dtype=np.float64), tensor.std(dtype=np.float64) or 1.0) for tensor in crossing]
        channels, height, width = pictures.shape[1:]
        with seeded(spec.seed):
            shapes = [tensor.shape[1:] for tensor in crossing]
            self._decoder = Decoder(shapes, (channels, height, width), spec.width)
            _train(self._decoder, self._scaled(crossing), torch.from_numpy(pictures) / WHITE, spec)

    def guess(self, crossing: list[np.ndarray]) -> np.ndarray:
        """What the pictures were, float32 [N, C, H, W] in 0..1."""
        with seeded(0), torch.inference_mode():
            guesses: np.ndarray = self._decoder(self._scaled(crossing)).clamp(0, 1).numpy()
        return guesses

    def _scaled(self, crossing: list[np.ndarray]) -> list[torch.Tensor]:
        pairs = zip(crossing, self._scales, strict=True)
        return [torch.from_numpy(((tensor - mean) / spread).astype(np.float32)) for tensor, (mean, spread) in pairs]


def _train(decoder: Decoder, tensors: list[torch.Tensor], pictures: torch.Tensor, spec: AttackSpec) -> None:
    num_batches = len(pictures) // spec.batch_size
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=spec.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=spec.learning_rate, total_steps=spec.epochs * num_batches)
    decoder.train()
    for _ in range(spec.epochs):
        order = torch.randperm(len(pictures))[: num_batches * spec.batch_size]
        for index in torch.split(order, spec.batch_size):
            loss = functional.mse_loss(decoder([tensor[index] for tensor in tensors]), pictures[index])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    decoder.eval()
