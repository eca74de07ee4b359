"""Joint training of all exits, from scratch, from a teacher, or as fine-tuning: one loop, seeded, on one thread.

    loss = sum over exits e of  w_e [(1 - a) CE(z_e, y) + a T^2 KL(softmax(t / T) || softmax(z_e / T))]

z_e are the exit's logits, y the label, t the last logits of the teacher, T its temperature, a its share (0 without one).
Source: the sum over exits: Teerapittayanon, McDanel, Kung, "BranchyNet", ICPR 2016, section III.B; the teacher: Hinton,
Vinyals, Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import torch
from torch import nn
from torch.nn import functional

from runtime.errors import InvalidConfig
from runtime.models.examples import Examples
from runtime.models.zoo import FitSpec

Progress = Callable[[float], None]


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """Who is imitated, and how much."""

    network: nn.Module
    """Images -> logits, or a list of them; every exit of the student imitates the last."""
    temperature: float = 4.0
    """Both sides' logits are divided by it: the higher, the more the wrong classes tell."""
    share: float = 0.7
    """Share of the imitation in the loss, 0..1; the labels have the rest."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0 <= self.share <= 1:
            raise InvalidConfig(f"a teacher needs temperature > 0 and share in 0..1, got {self.temperature} and {self.share}")


def fit_network(
    make: Callable[[], nn.Module],
    train: Examples,
    spec: FitSpec,
    *,
    exit_weights: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """What `make` gives, trained from scratch: its first weights and the training are one sequence of random numbers.

    Like `train_network` in everything else.
    """
    with seeded(spec.seed):
        network = make()
        _run(network, train, spec, exit_weights, None, spec.flip, progress or _silent)
    return network


def train_network(
    network: nn.Module,
    train: Examples,
    spec: FitSpec,
    *,
    exit_weights: Sequence[float] | None = None,
    teacher: Teacher | None = None,
    flip: bool = False,
    progress: Progress | None = None,
) -> None:
    """Train or fine-tune in place any module uint8 [N, C, H, W] -> list of logits [N, num_classes], one per exit.

    `exit_weights` (default: all 1) weigh the exits' losses; `flip` mirrors every other picture left to right;
    `progress` hears the share done after each epoch.  Seeded by `spec.seed`; the caller's generator is left alone and
    the network comes back in evaluation mode.  A network in channels-last memory format trains faster on CPUs.
    Raises InvalidConfig for other than one weight per exit, or when the examples do not fill one batch.
    """
    with seeded(spec.seed):
        _run(network, train, spec, exit_weights, teacher, flip, progress or _silent)


def objective(
    network: nn.Module,
    batch: torch.Tensor,
    labels: torch.Tensor,
    exit_weights: Sequence[float] | None = None,
    teacher: Teacher | None = None,
) -> torch.Tensor:
    """The loss of the module's head, a scalar with its graph: weighted over exits, with the teacher's part.

    `network` gives logits [N, num_classes], or a list of them, one per exit.  Raises InvalidConfig like `train_network`.
    """
    output = network(batch)
    losses = _losses([output] if isinstance(output, torch.Tensor) else output, batch, labels, teacher)
    return losses @ _weights(exit_weights, len(losses))


def set_training_mode(network: nn.Module) -> None:
    """Training mode, but evaluation for modules whose parameters are all frozen: their statistics must not move either."""
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one core: two processes with two threads each are five times slower on two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(
    network: nn.Module,
    train: Examples,
    spec: FitSpec,
    exit_weights: Sequence[float] | None,
    teacher: Teacher | None,
    flip: bool,
    progress: Progress,
) -> None:
    images, labels = torch.from_numpy(train.images[:, 0]), torch.from_numpy(train.labels)
    num_batches = len(labels) // spec.batch_size
    if num_batches < 1:
        raise InvalidConfig(f"{len(labels)} training examples do not fill one batch of {spec.batch_size}")
    optimiser = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate)
    num_steps = spec.epochs * num_batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=spec.learning_rate, total_steps=num_steps)
    set_training_mode(network)
    for epoch in range(spec.epochs):
        order = torch.randperm(len(labels))[: num_batches * spec.batch_size]
        for index in torch.split(order, spec.batch_size):
            batch = _augmented(images[index], spec.max_shift_pixels, flip)
            optimiser.zero_grad()
            torch.autograd.backward(objective(network, batch, labels[index], exit_weights, teacher))
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / spec.epochs)
    network.eval()


def _losses(logits: list[torch.Tensor], batch: torch.Tensor, labels: torch.Tensor, teacher: Teacher | None) -> torch.Tensor:
    """Loss of each exit, [E]."""
    losses = torch.stack([functional.cross_entropy(branch, labels) for branch in logits])
    if teacher is None:
        return losses
    with torch.no_grad():
        answer = teacher.network.eval()(batch)
        last = answer if isinstance(answer, torch.Tensor) else answer[-1]
        taught = functional.log_softmax(last / teacher.temperature, dim=1)
    spoken = [functional.log_softmax(branch / teacher.temperature, dim=1) for branch in logits]
    imitation = torch.stack([functional.kl_div(branch, taught, reduction="batchmean", log_target=True) for branch in spoken])
    return (1 - teacher.share) * losses + teacher.share * teacher.temperature**2 * imitation


def _weights(exit_weights: Sequence[float] | None, num_exits: int) -> torch.Tensor:
    weights = torch.ones(num_exits) if exit_weights is None else torch.tensor(exit_weights, dtype=torch.float32)
    if len(weights) != num_exits:
        raise InvalidConfig(f"{len(weights)} exit weights for {num_exits} exits; give one each")
    return weights


def _augmented(images: torch.Tensor, limit: int, flip: bool) -> torch.Tensor:
    """Each picture [N, C, H, W] moved by its own random offset, blank at the border, and mirrored by chance if `flip`."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (limit, limit, limit, limit))
    offsets = torch.randint(0, 2 * limit + 1, (len(images), 2)).tolist()
    moved = torch.stack([picture[:, y : y + height, x : x + width] for picture, (y, x) in zip(padded, offsets, strict=True)])
    if not flip:
        return moved
    mirrored = torch.rand(len(images)) < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator seeded, one thread; both as before afterwards."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _silent(share: float) -> None:
    """Nobody listens."""
