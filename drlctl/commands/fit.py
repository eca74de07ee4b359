"""`drlctl fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drlctl.commands.fit_options import refuse_between, refuse_without_effect
from drlctl.commands.options import JsonOption, ScenarioArgument, StateOption

if TYPE_CHECKING:
    from experiments.fit_run import FitRun


def command(
    context: typer.Context,
    scenario: ScenarioArgument = "calm",
    clients: Annotated[int | None, typer.Option(min=1, help="Devices with data of their own [default: the scenario's].")] = None,
    edges: Annotated[int | None, typer.Option(min=1, help="Edges that they are below, in turn.")] = None,
    architecture: Annotated[str, typer.Option(help="federated, hierarchical, centralised, gossip, split or local.")] = "",
    root: Annotated[str, typer.Option(help="Tier of the node above all clients: cloud, or edge (one edge, no cloud in the job).")] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Global rounds.")] = None,
    tau: Annotated[str, typer.Option(help="Local steps between aggregations: a number, or adaptive (Wang et al., JSAC 2019).")] = "",
    edge_rounds: Annotated[int | None, typer.Option(min=1, help="Edge averages per cloud average (hierarchical).")] = None,
    compressor: Annotated[str, typer.Option(help="Of updates: identity, qsgd8, topk1+ef, dgc, ... (a wrong one lists all).")] = "",
    aggregator: Annotated[str, typer.Option(help="fedavg, fedavgm, fedadam, median, krum, ...")] = "",
    learning_rate: Annotated[float | None, typer.Option(help="Of local steps.")] = None,
    data: Annotated[str, typer.Option(help="digits, a folder of IDX or CIFAR files or pictures, or sensors:ARCHIVE.")] = "",
    partition: Annotated[str, typer.Option(help="iid, dirichlet, or subject (sensors only).")] = "",
    alpha: Annotated[float | None, typer.Option(help="Of dirichlet: small makes clients differ.")] = None,
    cut: Annotated[int | None, typer.Option(min=1, help="Stages that stay on the device (split).")] = None,
    labels_stay: Annotated[bool, typer.Option("--labels-stay", help="Labels never leave the device either (split).")] = False,
    secure: Annotated[bool, typer.Option("--secure", help="Secure aggregation: the root sees the sum of updates only.")] = False,
    base: Annotated[str, typer.Option(help="Transfer from: an earlier run's folder, or `own`: the root trains on its own part.")] = "",
    freeze: Annotated[int | None, typer.Option(min=0, help="Lowest layers that stay the base's; they are never sent again.")] = None,
    distil: Annotated[float | None, typer.Option(min=0, max=1, help="Share of imitating the base's answers in the loss.")] = None,
    target: Annotated[float | None, typer.Option(min=0, max=1, help="Stop at this test accuracy.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of first weights, partition and minibatches.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Play every architecture and technique, and show one table.")] = False,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run's folder, which was interrupted.")] = None,
    running: Annotated[bool, typer.Option("--running", help="Train on the system that `drlctl up` runs, beside its requests.")] = False,
    state: StateOption = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder [default: scenario and time].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on the nodes themselves: federated, hierarchical, centralised, gossip, split, or each device for itself.

    Starts a cloud, edges and a device per client as processes, each with its own part of the data; counts the bytes of real
    frames that cross the scenario's links; keeps every node's state, so that --resume goes on after a crash.  Energy is
    modelled, slow tiers and links are emulated, as the scenario says.
    """
    from drlctl.fitting import fit, fit_running, how_to_go_on
    from drlctl.fitting import resume as go_on
    from drlctl.output import ProgressLine, note
    from envs.scenario import load_scenario
    from experiments.fit_variants import every_variant

    given = {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    refuse_between(given)
    chosen = load_scenario(scenario)
    changes = {
        "architecture": architecture or None,
        "root": root or None,
        "rounds": rounds,
        "edge_rounds": edge_rounds,
        "compressor": compressor or None,
        "aggregator": aggregator or None,
        "cut": cut if cut is not None else 1 if architecture == "split" else None,
        "labels_stay": labels_stay or None,
        "target_accuracy": target,
        "seed": seed,
        "data": {
            **_given(source=data or None, partition=partition or None, alpha=alpha, num_clients=clients, seed=seed),
            **({"root_fraction": ROOT_FRACTION} if base == OWN and not chosen.fit.data.root_fraction else {}),
        },
        "secure_aggregation": secure or None,
        "transfer": _transfer(base, freeze, distil),
        "local": _given(learning_rate=learning_rate, seed=MINIBATCH_SEEDS * seed if seed is not None else None),
        "tau": _tau(tau),
    }
    chosen = with_fit(chosen, {key: value for key, value in changes.items() if value not in (None, {})}, edges)
    refuse_without_effect(given, chosen.fit)
    unfinished: list[FitRun] = []
    try:
        with ProgressLine() as progress:
            if running:
                run = fit_running(chosen.fit, state, progress)
            elif resume is not None:
                run = go_on(resume, progress, unfinished.append)
            else:
                jobs = every_variant(chosen.fit) if compare else (chosen.fit,)
                run = fit(chosen, jobs, root=out, run_name=name, progress=progress, on_unfinished=unfinished.append)
    except BaseException:
        for ended_early in unfinished:
            if ended_early.jobs:
                _show(ended_early, as_json)
            note(how_to_go_on(ended_early))
        raise
    _show(run, as_json)
    if run.folder and not as_json:
        note(f"run: {run.folder}")


def _show(run: FitRun, as_json: bool) -> None:
    from drlctl.output import print_json, print_text
    from experiments.fit_run import run_lines

    if as_json:
        print_json(run)
        return
    for line in run_lines(run):
        print_text(line)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


MINIBATCH_SEEDS = 1000
"""Between those of two jobs: each client adds its number."""
OWN, ROOT_FRACTION = "own", 0.2
"""`--base own`: a fifth of the examples are the root's where the scenario does not say."""


def _transfer(base: str, freeze: int | None, distil: float | None) -> dict[str, Any]:
    found = None if base in {"", OWN} else str(Path(base).resolve()) if Path(base).exists() else base  # else it is the root's to find
    return _given(checkpoint=found, frozen=freeze, distil={"share": distil} if distil is not None else None) or (
        {"frozen": 2} if base else {}
    )


def _tau(text: str) -> dict[str, Any]:
    if not text:
        return {}
    if text.isdecimal() and int(text) > 0:
        return {"rule": "fixed", "tau": int(text), "max_tau": max(100, int(text))}
    if text == "adaptive":
        return {"rule": "adaptive", "tau": 1}
    raise typer.BadParameter(f"a number of steps, or adaptive, got {text!r}", param_hint="--tau")


def with_fit(scenario: Any, changes: dict[str, Any], edges: int | None) -> Any:
    """The scenario with another job to fit, and as many edges.  Raises InvalidConfig naming the option's key."""
    import msgspec

    from runtime.config import decode_config
    from runtime.errors import InvalidConfig
    from runtime.messages import FitJob, NetworkSpec

    job = msgspec.to_builtins(scenario.fit)
    for key, value in changes.items():
        job[key] = {**(job[key] or {}), **value} if isinstance(value, dict) else value
    if job["data"]["source"].startswith("sensors:") and job["network"] == msgspec.to_builtins(NetworkSpec()):
        job["network"] = {"factory": "runtime.models.networks.compact:activity_cnn"}
    made = decode_config(job, FitJob, "the job")
    topology = scenario.topology if edges is None else msgspec.structs.replace(scenario.topology, num_edges=edges)
    if made.root == "edge" and topology.num_edges > 1:
        raise InvalidConfig(f"a job whose root is the edge has one edge, the topology has {topology.num_edges}: set num_edges to 1")
    if topology.num_edges > made.data.num_clients:
        raise InvalidConfig(f"{topology.num_edges} edges have no device each: the job has {made.data.num_clients} clients")
    return msgspec.structs.replace(scenario, fit=made, topology=topology)
