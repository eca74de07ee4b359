"""Every error drlctl raises on purpose, in one tree.  The class says who erred; the exit code is the CLI's.

    DrlctlError                     1
    |-- InvalidInput                65   our caller asked for something impossible (also a ValueError)
    |   |-- InvalidDecision              cuts, exit, variant or codec that the model does not have
    |   |-- InvalidTensor                wrong shape, dtype, or not finite
    |   |-- InvalidDataset               files that are not the data set they should be
    |   |-- UnknownModel                 no such model, variant or artifact here
    |   |   `-- MissingFile                  a model's file is not here, or is corrupt; it can be fetched
    |   |-- InvalidModel                 a network that cannot be imported, exported or cut
    |   |-- InvalidBundle                a policy bundle that is corrupt or made for another catalogue
    |   |-- InvalidPredictor             a predictor file that is corrupt or made for other features
    |   |-- InvalidCheckpoint            a training state that is corrupt or of another model
    |   `-- InvalidProfile               a profile file that is corrupt or made for another model
    |-- InvalidConfig               78   a scenario or configuration file is wrong (also a ValueError)
    |-- PeerError                   76   another process erred
    |   |-- MalformedMessage             bytes that are not a message (also a ValueError)
    |   |-- WrongContent                 a file whose bytes are not those of its hash
    |   `-- PeerLost                69   it died, or never answered (also a ConnectionError)
    |       `-- RoundFailed                too few clients of a training round stayed
    |-- MissingExtra                69   an optional part of drlctl is not installed (also an ImportError)
    |-- NoDecision (agents/policy.py)    a policy has no decision for this observation; greedy takes over
    `-- SystemFailure               70   our own harness broke: a node did not start, a loop died
        `-- NotStored                    this host's disk, or our share of it, cannot take a file

A failed *request* is not here: it is data, an `Outcome` with a status (runtime/messages).
"""

from __future__ import annotations


class DrlctlError(Exception):
    """Root of everything drlctl raises on purpose."""

    exit_code = 1


class InvalidInput(DrlctlError, ValueError):
    """Our caller asked for something impossible."""

    exit_code = 65


class InvalidDecision(InvalidInput):
    """A decision the model or the topology cannot carry out."""


class InvalidTensor(InvalidInput):
    """A tensor of the wrong shape or dtype, or one that is not finite."""


class InvalidDataset(InvalidInput):
    """A data set that is missing, truncated, oversized, or not of the form that its files claim."""


class UnknownModel(InvalidInput):
    """A model, variant or artifact that is not to be found here."""


class MissingFile(UnknownModel):
    """A model's file is not here, or its bytes are not those of its hash."""

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


class InvalidModel(InvalidInput):
    """A network that cannot be imported, made, exported or cut into stages."""


class InvalidBundle(InvalidInput):
    """A policy bundle that is corrupt, incomplete, or made for another catalogue."""


class InvalidPredictor(InvalidInput):
    """A predictor file that is corrupt, or made for other features."""


class InvalidProfile(InvalidInput):
    """A profile file that is corrupt, incomplete, or made for another model."""


class InvalidCheckpoint(InvalidInput):
    """A saved training state that is corrupt, incomplete, or of another model."""


class InvalidConfig(DrlctlError, ValueError):
    """A scenario or configuration file that cannot be used; the message names the key and what is allowed."""

    exit_code = 78


class PeerError(DrlctlError):
    """Another process erred."""

    exit_code = 76


class MalformedMessage(PeerError, ValueError):
    """The peer sent bytes that are not a message of ours."""


class WrongContent(PeerError):
    """The peer sent a file whose bytes are not those of its hash."""


class PeerLost(PeerError, ConnectionError):
    """The peer died or never answered."""

    exit_code = 69


class RoundFailed(PeerLost):
    """Too few clients of a training round stayed for it to give a result."""


class MissingExtra(DrlctlError, ImportError):
    """An optional part of drlctl is needed and not installed; the message names the extra."""

    exit_code = 69


class SystemFailure(DrlctlError, RuntimeError):
    """Our own harness broke: a node did not start, an event loop died."""

    exit_code = 70


class NotStored(SystemFailure):
    """A file cannot be kept on this host: the disk, or the share of it that is ours, is full."""
