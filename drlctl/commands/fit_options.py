"""Which options of `drlctl fit` would be without effect, and what they belong to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from runtime.messages import FitJob

AVERAGING = ("federated", "hierarchical", "split")
"""Architectures in which somebody averages what clients send."""

_BELONGS: dict[str, tuple[str, Callable[[FitJob], bool]]] = {
    "aggregator": ("--architecture federated, hierarchical or split", lambda job: job.architecture in AVERAGING),
    "alpha": ("--partition dirichlet", lambda job: job.data.partition == "dirichlet"),
    "cut": ("--architecture split", lambda job: job.architecture == "split"),
    "edge_rounds": ("--architecture hierarchical", lambda job: job.architecture == "hierarchical"),
    "labels_stay": ("--architecture split", lambda job: job.architecture == "split"),
}
"""Option -> what it belongs to, and whether a job has that."""

NOT_WHERE_IT_RUNS = frozenset({"clients", "edges", "compare", "out", "name"})
"""What is settled by the system that runs already."""
NOT_TO_COMPARE = frozenset({"architecture", "cut", "edge_rounds", "labels_stay"})
"""What the jobs to compare have of their own."""


def refuse_between(given: Collection[str]) -> None:
    """Raise a usage error for options that another one leaves without effect, whatever the job is."""
    if "resume" in given:
        refuse_beside("--resume", "the run's folder says what is trained", set(given) - {"resume", "as_json"})
    if "running" in given:
        refuse_beside("--running", "its one device is the client, and nothing is kept", NOT_WHERE_IT_RUNS.intersection(given))
    elif "state" in given:
        raise typer.BadParameter("only --running asks which system runs; leave it out", param_hint="--state")
    if "compare" in given:
        refuse_beside("--compare", "it plays every architecture, each with its own", NOT_TO_COMPARE.intersection(given))


def refuse_without_effect(given: Collection[str], job: FitJob) -> None:
    """Raise a usage error for options that the job, as scenario and options make it, would not look at."""
    for name in sorted(_BELONGS.keys() & set(given)):
        belongs, has_it = _BELONGS[name]
        if not has_it(job):
            raise typer.BadParameter(
                f"it belongs to {belongs}; this job is {job.architecture}, its data {job.data.partition}: it would be without effect",
                param_hint=_spelt(name),
            )


def refuse_beside(mode: str, why: str, others: Collection[str]) -> None:
    """Raise a usage error for options that would be without effect; better than to be believed."""
    if others:
        raise typer.BadParameter(f"{why}; leave out {', '.join(map(_spelt, sorted(others)))}", param_hint=mode)


def _spelt(name: str) -> str:
    return "SCENARIO" if name == "scenario" else f"--{name.replace('_', '-')}"
