"""An attack on what crosses a cut: a decoder, or a linear map, that paints the input from it.  Needs the `train` extra.

Who attacks: somebody who sees the tensors of the cut, can run the head of the network on pictures of their own (or
holds pairs of both), and has pictures of the same distribution as the victims', none of them the victims'.  They train
an inverse network on pairs (activation, picture), and apply it to what they see.  They need neither the head's weights
nor gradients through it.

    pictures of their own --head--> [codec] --decoder--> guess        (loss: mean squared error)
    unseen pictures       --head--> [codec] --decoder--> guess        judged: NMSE and SSIM against the picture

Deep cuts have few tensors and the attacker few pictures: there ridge regression often beats the decoder, so both are tried and
the attacker keeps what does better on pictures of their own that were held out.  A failure of both is no proof of privacy.

Source: He, Zhang, Lee, "Model inversion attacks against collaborative inference", ACSAC 2019, section 5 (black-box
attack by an inverse network).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidConfig
from runtime.models.fitting import seeded
from runtime.models.linear_inverse import RIDGES, LinearInverse
from runtime.models.pixels import WHITE

BLOCK = 4
"""The decoder works on a grid so many times coarser than the picture and paints a block of pixels per cell."""
HELD_OUT_EVERY = 5
"""Every so many pictures of the attacker's own, one judges what to use."""

Guess = Callable[[list[np.ndarray]], np.ndarray]
Method = Literal["linear", "decoder"]


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
    """A linear inverse and a decoder of one cut, of which the one that does better on held-out pictures of its own is used."""

    def __init__(self, crossing: list[np.ndarray], pictures: np.ndarray, spec: AttackSpec) -> None:
        """Train on what crosses for the attacker's own pictures: tensors [N, ...] and uint8 [N, C, H, W].

        The same arguments give the same guesses.  Raises InvalidConfig when the pictures but the held-out ones do not fill
        one batch.
        """
        held = np.arange(len(pictures)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        if np.count_nonzero(~held) < spec.batch_size:
            raise InvalidConfig(f"{np.count_nonzero(~held)} pictures to train on do not fill one batch of {spec.batch_size}")
        self._scales = [_scale(tensor) for tensor in crossing]
        scaled, targets = self._scaled(crossing), (pictures / WHITE).astype(np.float32)
        seen, others = ([tensor[part] for tensor in scaled] for part in (~held, held))
        linear = LinearInverse(_flat(seen), targets[~held])
        ways: list[Guess] = [partial(_guess_linearly, linear, ridge) for ridge in RIDGES]
        ways.append(_decoder(seen, targets[~held], spec))
        errors = [float(np.mean((way(others) - targets[held]) ** 2)) for way in ways]
        self._guess = ways[int(np.argmin(errors))]
        self.method: Method = "decoder" if self._guess is ways[-1] else "linear"
        """What is used."""

    def guess(self, crossing: list[np.ndarray]) -> np.ndarray:
        """What the pictures were, float32 [N, C, H, W] in 0..1."""
        return self._guess(self._scaled(crossing))

    def _scaled(self, crossing: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(crossing, self._scales, strict=True)
        return [((tensor - mean) / spread).astype(np.float32) for tensor, (mean, spread) in pairs]


def _flat(tensors: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([tensor.reshape(len(tensor), -1) for tensor in tensors], axis=1)


def _guess_linearly(inverse: LinearInverse, ridge: float, tensors: list[np.ndarray]) -> np.ndarray:
    return inverse.guess(_flat(tensors), ridge)


def _decoder(tensors: list[np.ndarray], pictures: np.ndarray, spec: AttackSpec) -> Guess:
    """A trained decoder, as a function."""
    channels, height, width = pictures.shape[1:]
    with seeded(spec.seed):
        decoder = Decoder([tensor.shape[1:] for tensor in tensors], (channels, height, width), spec.width)
        _train(decoder, [torch.from_numpy(tensor) for tensor in tensors], torch.from_numpy(pictures), spec)

    def guess(seen: list[np.ndarray]) -> np.ndarray:
        with seeded(spec.seed), torch.inference_mode():
            guesses: np.ndarray = decoder([torch.from_numpy(tensor) for tensor in seen]).clamp(0, 1).numpy()
        return guesses

    return guess


def _scale(tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each channel (or feature) of [N, C, ...]; spread 1 where a channel never changes."""
    axes = (0, *range(2, tensor.ndim))
    mean = np.asarray(np.mean(tensor, axis=axes, dtype=np.float64, keepdims=True))
    spread = np.asarray(np.std(tensor, axis=axes, dtype=np.float64, keepdims=True))
    return mean, np.where(spread > 0, spread, 1.0)


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
