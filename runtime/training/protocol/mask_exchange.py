"""One masked round at the root, beside the updates themselves: passes keys and shares on, asks survivors to unmask, counts the cost.

    keys ──all, or enough in time──► shares ──all, or enough in time──► updates ──ask()──► revealing ──threshold──► revealed
      └──────────────── fewer than the threshold in time ─────────────────┴──────────────────┴──► lost, for one reason

Who misses a step is out of the round, and so is a client that was restarted within it: its secrets are gone.  A message of
another step, another round, or a second one of the same client changes nothing.
Source: Bonawitz et al., CCS 2017, figure 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

from runtime.codec import num_bytes
from runtime.messages import (
    FitJob,
    KeyBook,
    KeyPair,
    KeyShares,
    Masking,
    MaskingCost,
    MaskKeys,
    Message,
    Revealed,
    SealedShares,
    Survivors,
)
from runtime.protocol.events import Instruction, Received
from runtime.training.protocol.masking_tasks import SharesRevealed, Unmask
from runtime.training.protocol.ports import Ports

ExchangePhase = Literal["keys", "shares", "updates", "revealing", "revealed", "lost"]
Loss = Literal["too_few_keys", "too_few_shares", "too_few_revealed"]


class MaskExchange:
    """The root's side.  `examples` of the drawn clients, in their order; `peer_of` says where each is now."""

    def __init__(
        self,
        job: FitJob,
        number: int,
        examples: Mapping[str, int],
        threshold: int,
        ports: Ports,
        peer_of: Callable[[str], bytes],
        at_s: float,
    ) -> None:
        self._job, self._round, self._threshold, self._ports, self._peer_of = job, number, threshold, ports, peer_of
        self._numbers = {name: index for index, name in enumerate(examples, start=1)}
        largest = max(examples.values())
        self._weights = {name: count / largest for name, count in examples.items()}
        self.phase: ExchangePhase = "keys"
        self.loss: Loss | None = None
        self.gone: set[str] = set()
        """Clients whose updates cannot be unmasked, or will not come."""
        self._keys: dict[str, KeyPair] = {}
        self._shares: dict[str, dict[int, bytes]] = {}
        self._survivors: tuple[str, ...] = ()
        self._revealed: dict[str, SharesRevealed] = {}
        self._up_bytes = self._down_bytes = 0
        self._since_s, self._exchange_s, self._reveal_s = at_s, 0.0, 0.0
        self.deadline_at_s = at_s + job.step_deadline_s

    def place(self, client: str) -> Masking:
        """What a drawn client has to know from the start."""
        return Masking(
            number=self._numbers[client], num_clients=len(self._numbers), threshold=self._threshold, weight=self._weights[client]
        )

    def cost(self) -> MaskingCost:
        """So far."""
        return MaskingCost(up_bytes=self._up_bytes, down_bytes=self._down_bytes, exchange_s=self._exchange_s, reveal_s=self._reveal_s)

    def unmask(self) -> Unmask:
        """All that takes the masks off."""
        return Unmask(
            threshold=self._threshold,
            numbers=self._numbers,
            weights=self._weights,
            keys={self._numbers[name]: pair for name, pair in self._keys.items()},
            sharers=tuple(self._numbers[name] for name in self._shares),
            revealed={self._numbers[name]: answer for name, answer in self._revealed.items()},
        )

    # ------------------------------------------------------------ events

    def on_message(self, event: Received) -> list[Instruction]:
        """A client's keys, its shares, or what it reveals."""
        message = event.message
        if not isinstance(message, MaskKeys | KeyShares | Revealed) or message.round != self._round or message.client not in self._numbers:
            return []
        self._up_bytes += event.num_bytes
        match message:
            case MaskKeys(client=client, keys=keys):
                self._on_keys(client, keys)
            case KeyShares(client=client, sealed=sealed):
                self._on_shares(client, sealed)
            case Revealed():
                self._on_revealed(message, event.at_s)
        return self._go_on(event.at_s)

    def give_up_on(self, client: str, at_s: float) -> list[Instruction]:
        """It said that it will not answer."""
        if self.phase in {"keys", "shares"}:
            self.gone.add(client)
        return self._go_on(at_s)

    def tick(self, at_s: float) -> list[Instruction]:
        """Whoever is not heard by a step's deadline is out of the round."""
        if at_s < self.deadline_at_s:
            return []
        if self.phase == "revealing":
            self._lose("too_few_revealed")
        self.gone |= self._awaited()
        return self._go_on(at_s)

    def ask(self, survivors: tuple[str, ...], at_s: float) -> list[Instruction]:
        """The round's updates are in: ask those they came from to unmask their sum."""
        self.phase, self._survivors = "revealing", survivors
        self._since_s, self.deadline_at_s = at_s, at_s + self._job.step_deadline_s
        numbers = tuple(self._numbers[name] for name in survivors)
        return [
            self._send(name, Survivors(job=self._job.name, client=name, round=self._round, numbers=numbers), at_s) for name in survivors
        ]

    # ------------------------------------------------------------ steps

    def _on_keys(self, client: str, keys: KeyPair) -> None:
        if self.phase == "keys":
            self._keys[client] = keys  # a client restarted meanwhile sends others, which nobody has used yet
        elif self._keys.get(client) != keys:
            self.gone.add(client)

    def _on_shares(self, client: str, sealed: dict[int, bytes]) -> None:
        others = {self._numbers[name] for name in self._keys} - {self._numbers[client]}
        if self.phase == "shares" and client in self._keys and client not in self._shares and set(sealed) == others:
            self._shares[client] = sealed

    def _on_revealed(self, message: Revealed, at_s: float) -> None:
        survivors = {self._numbers[name] for name in self._survivors}
        dropped = {self._numbers[name] for name in self._shares} - survivors
        fits = set(message.own_seeds) == survivors and set(message.mask_keys) == dropped
        if self.phase != "revealing" or message.client not in self._survivors or message.client in self._revealed or not fits:
            return
        self._revealed[message.client] = SharesRevealed(
            job=message.job, round=message.round, mask_keys=message.mask_keys, own_seeds=message.own_seeds
        )
        if len(self._revealed) >= self._threshold:
            self.phase, self.deadline_at_s, self._reveal_s = "revealed", math.inf, at_s - self._since_s

    def _awaited(self) -> set[str]:
        """Who has yet to be heard in this step."""
        if self.phase == "keys":
            return set(self._numbers) - set(self._keys) - self.gone
        return set(self._keys) - set(self._shares) - self.gone if self.phase == "shares" else set()

    def _go_on(self, at_s: float) -> list[Instruction]:
        if self.phase not in {"keys", "shares"} or self._awaited():
            return []
        return self._after_keys(at_s) if self.phase == "keys" else self._after_shares(at_s)

    def _after_keys(self, at_s: float) -> list[Instruction]:
        self._keys = {name: self._keys[name] for name in self._numbers if name in self._keys and name not in self.gone}
        if len(self._keys) < self._threshold:
            return self._lose("too_few_keys")
        self.phase, self.deadline_at_s = "shares", at_s + self._job.step_deadline_s
        book = {self._numbers[name]: pair for name, pair in self._keys.items()}
        return [self._send(name, KeyBook(job=self._job.name, client=name, round=self._round, keys=book), at_s) for name in self._keys]

    def _after_shares(self, at_s: float) -> list[Instruction]:
        if len(self._shares) < self._threshold:
            return self._lose("too_few_shares")
        self.phase, self.deadline_at_s, self._exchange_s = "updates", math.inf, at_s - self._since_s
        out = []
        for name in self._shares:
            sealed = {self._numbers[other]: boxes[self._numbers[name]] for other, boxes in self._shares.items() if other != name}
            out.append(self._send(name, SealedShares(job=self._job.name, client=name, round=self._round, sealed=sealed), at_s))
        return out

    def _lose(self, loss: Loss) -> list[Instruction]:
        self.phase, self.loss, self.deadline_at_s = "lost", loss, math.inf
        return []

    def _send(self, client: str, message: Message, at_s: float) -> Instruction:
        send = self._ports.down_control(self._peer_of(client), message, at_s)
        self._down_bytes += num_bytes(send.frames)
        return send
