"""A chain of convolutions: a trunk of stages with a classifier branching off after some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from runtime.models.zoo import ChainSpec, ConvSpec, ExitSpec, ModelSpec

INPUT_CHANNELS = 1
WHITE = 255.0


class ConvBlock(nn.Module):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, spec: ConvSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, spec.channels, 3, stride=spec.stride, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(spec.channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] -> float32 [N, channels, H/stride, W/stride]"""
        return torch.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Put the normalisation into the convolution's weights; for evaluation only, same output."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class Head(nn.Module):
    """Global average pooling and a linear classifier, of limited rank where the exit says so."""

    def __init__(self, in_channels: int, num_classes: int, spec: ExitSpec) -> None:
        super().__init__()
        rank = spec.num_features
        self.project: nn.Module = nn.Linear(in_channels, rank) if rank else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm1d(rank) if rank else nn.Identity()
        self.classify = nn.Linear(rank or in_channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, C, H, W] -> logits float32 [N, num_classes]"""
        logits: torch.Tensor = self.classify(self.norm(self.project(x.mean((2, 3)))))
        return logits

    def fold(self) -> None:
        """Make one linear map of projection, normalisation and classifier; for evaluation only, same output."""
        if isinstance(self.norm, nn.BatchNorm1d) and isinstance(self.project, nn.Linear):
            project = fuse_linear_bn_eval(self.project, self.norm)
            joined = nn.Linear(project.in_features, self.classify.out_features)
            with torch.no_grad():
                joined.weight.copy_(self.classify.weight @ project.weight)
                joined.bias.copy_(self.classify(project.bias))
            self.project, self.norm, self.classify = nn.Identity(), nn.Identity(), joined


class MultiExitNetwork(nn.Module):
    """All stages and all heads of a specification; weights from torch's global generator."""

    def __init__(self, spec: ChainSpec | ModelSpec, num_classes: int) -> None:
        super().__init__()
        chain = spec if isinstance(spec, ChainSpec) else msgspec.convert(spec.arguments, ChainSpec)
        self.exit_ends = tuple(branch.end for branch in chain.exits)
        self.gain = 1 / WHITE
        self.stages = nn.ModuleList()
        channels = INPUT_CHANNELS
        widths: list[int] = []
        for convs in chain.stages:
            self.stages.append(_stage(channels, convs))
            channels = convs[-1].channels
            widths.append(channels)
        self.heads = nn.ModuleList(Head(widths[branch.end - 1], num_classes, branch) for branch in chain.exits)

    def forward(self, image: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """uint8 [N, 1, H, W] -> (tensors of cut 1..S, logits [N, num_classes] of each exit)"""
        x = image.to(torch.float32)
        if self.gain != 1:
            x = x * self.gain
        cuts, logits = [], []
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            cuts.append(x)
            if number in self.exit_ends:
                logits.append(self.heads[self.exit_ends.index(number)](x))
        return cuts, logits

    def fold(self) -> None:
        """Switch to evaluation and fold every normalisation into the weights beside it; cannot be trained after."""
        self.eval()
        for module in list(self.modules()):
            if isinstance(module, ConvBlock | Head):
                module.fold()
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            first.weight.mul_(self.gain)
        self.gain = 1.0


class ExitsOnly(nn.Module):
    """A multi-exit network as every other: an image in, the logits of each exit out."""

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """uint8 [N, 1, H, W] -> logits [N, num_classes] of each exit"""
        logits: list[torch.Tensor] = self.network(image)[1]
        return logits

    def fold(self) -> None:
        """See `MultiExitNetwork.fold`."""
        self.network.fold()


def conv_chain(*, num_classes: int, stages: Sequence[Any], exits: Sequence[Mapping[str, Any]]) -> ExitsOnly:
    """The network of a `ChainSpec` given as JSON values.  Raises msgspec's ValidationError for other values."""
    return ExitsOnly(MultiExitNetwork(msgspec.convert({"stages": stages, "exits": exits}, ChainSpec), num_classes))


def _stage(in_channels: int, convs: Sequence[ConvSpec]) -> nn.Sequential:
    widths = [in_channels, *(conv.channels for conv in convs)]
    return nn.Sequential(*(ConvBlock(width, conv) for width, conv in zip(widths, convs, strict=False)))
