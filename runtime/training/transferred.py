"""One node's part of a knowledge transfer: which layers of its network are the base's, and whose answers it imitates.

    frozen layers alone      a client needs those layers' state
    with distillation        a client needs the whole base, whose lower layers are the frozen ones

Distillation happens where the examples are.  A teacher that stayed at the root would need every example sent up to it, which
is what federated training is there to avoid, and on 64x64 pictures also more bytes than the teacher has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from runtime.errors import InvalidCheckpoint, InvalidModel
from runtime.files import write_atomically
from runtime.messages import FitJob, TransferSpec
from runtime.models.fitting import Teacher
from runtime.training import flat
from runtime.training.base import BASE_NAME, make_base
from runtime.training.protocol.laid_base import digest_of
from runtime.training.transfer import find_layer, freeze_layers, layer_names, load_state_vector, lowest_layers, reuse_layers, state_vector


class Transferred:
    """Freezes the network's lowest layers; `take_over` fills them.

    Raises InvalidModel for more layers than there are, or a base whose layers differ.
    """

    def __init__(self, job: FitJob, transfer: TransferSpec, network: nn.Module) -> None:
        self._spec, self._network = transfer, network
        self._layers = lowest_layers(network, transfer.frozen)
        self._base = make_base(job, transfer)
        if transfer.frozen + transfer.tuned:
            self._reuse(self._base, transfer.frozen + transfer.tuned)  # what does not fit is refused now
        freeze_layers(network, self._layers)
        if not flat.num_trainable(network):
            raise InvalidModel(f"{transfer.frozen} frozen layers leave nothing to train; the layers are {', '.join(layer_names(network))}")
        distil = transfer.distil
        self.teacher = Teacher(network=self._base, temperature=distil.temperature, share=distil.share) if distil is not None else None
        """Whom local steps imitate, once the base is here."""
        self.digest = ""
        """Of the base that is here; empty while there is none."""

    @property
    def lacks_base(self) -> bool:
        """Whether local steps must wait for it."""
        return self._spec.clients_need_base and not self.digest

    def begin_from(self, base: nn.Module) -> np.ndarray:
        """Frozen and tuned layers as they are in the base; what clients need of it, float32 [F].  At the root."""
        self._reuse(base, self._spec.frozen + self._spec.tuned)
        freeze_layers(self._network, self._layers)
        return state_vector([base] if self.teacher is not None else [find_layer(base, name) for name in self._layers])

    def take_over(self, vector: np.ndarray) -> None:
        """Use the base that came, float32 [F].  Raises InvalidTensor for another network's."""
        if self.teacher is not None:
            load_state_vector([self._base], vector)
            self._reuse(self._base, self._spec.frozen)
        else:
            load_state_vector([find_layer(self._network, name) for name in self._layers], vector)
        self.digest = digest_of(vector)

    def keep(self, folder: Path) -> None:
        """Let a restarted node do without another copy over the link.  Raises OSError."""
        modules = [self._base] if self.teacher is not None else [find_layer(self._network, name) for name in self._layers]
        write_atomically(folder / BASE_NAME, save({"base": state_vector(modules)}))

    def recall(self, folder: Path) -> None:
        """Take over what was kept, if it was.  Raises InvalidCheckpoint."""
        path = folder / BASE_NAME
        if not path.is_file():
            return
        try:
            self.take_over(load(path.read_bytes())["base"])
        except (OSError, KeyError, SafetensorError, ValueError) as exc:
            raise InvalidCheckpoint(f"{path} holds no base of this job: {exc}") from exc

    def _reuse(self, base: nn.Module, count: int) -> None:
        names = lowest_layers(self._network, count)
        if (theirs := lowest_layers(base, count)) != names:
            raise InvalidModel(f"the lowest layers are {', '.join(names)}, the base's {', '.join(theirs)}")
        reuse_layers(base, self._network, names, freeze=False)
