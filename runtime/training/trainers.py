"""Which trainer a node needs for its role in a job.  Imported by name, by the trainer's thread, once a job comes."""

from __future__ import annotations

import importlib

from runtime.training.central_trainer import CentralRootTrainer, ExampleSource
from runtime.training.protocol.tasks import Prepare
from runtime.training.split_trainer import SplitDevice, SplitServer
from runtime.training.steps import AfterStep
from runtime.training.trainer import Trainer


def make_trainer(prepare: Prepare, after_step: AfterStep) -> Trainer | ExampleSource | SplitDevice | SplitServer:
    """The trainer.  Raises DrlctlErrors for a job that cannot be carried out here, MissingExtra where masks need a package."""
    match prepare.job.architecture, prepare.role:
        case "centralised", "root":
            return CentralRootTrainer(prepare, after_step)
        case "centralised", "client":
            return ExampleSource(prepare)
        case "split", "client":
            return SplitDevice(prepare, after_step)
        case "split", "server":
            return SplitServer(prepare, after_step)
        case "federated", _ if prepare.job.secure_aggregation:
            secure: Trainer = importlib.import_module("runtime.training.secure_trainer").SecureTrainer(prepare, after_step)
            return secure
        case _:
            return Trainer(prepare, after_step)
