"""`drlctl models list | show | split`, and those of `drlctl.commands.modelling`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drlctl.commands import modelling
from drlctl.commands.options import JsonOption

if TYPE_CHECKING:
    from drlctl.models import Cut, Entry
    from runtime.inference.difficulty import DifficultyCard
    from runtime.messages import TensorSpec
    from runtime.models.manifest import VariantInfo

app = typer.Typer(
    help="Which models there are, where a network can be cut; and models for your own data.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("build")(modelling.build_command)
app.command("compress")(modelling.compress_command)
app.command("exits")(modelling.exits_command)


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The zoo and your own models, and which are built."""
    from drlctl.models import list_models
    from drlctl.output import print_json, print_table

    entries = list_models()
    if as_json:
        print_json(entries)
        return
    rows = [
        (
            entry.spec.name,
            describe(entry.spec.input),
            entry.spec.dataset or "-",
            ",".join(entry.spec.variants),
            "yes" if entry.directory else "no",
        )
        for entry in entries
    ]
    print_table(("model", "input", "trained on", "variants", "built"), rows, [entry.spec.factory for entry in entries])


@app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A model; `drlctl models list` names them.")], as_json: JsonOption = False
) -> None:
    """One model: its stages and exits and, for each variant, bytes of every cut, seconds of every stage, accuracy."""
    from drlctl.models import show_model
    from drlctl.output import print_json

    entry = show_model(name)
    if as_json:
        print_json(entry)
    else:
        _show(entry)


@app.command("split")
def split_command(
    target: Annotated[str, typer.Argument(help="A model of the zoo, or package.module:factory; the current folder is searched too.")],
    shape: Annotated[
        str, typer.Option("--input", help="The input's shape, batch first, like 1x3x64x64 [default: a zoo model's own].")
    ] = "",
    dtype: Annotated[str, typer.Option(help="The input's dtype: float32, uint8, ...")] = "float32",
    max_stages: Annotated[
        int | None, typer.Option(min=1, help="Cut into at most so many stages [default: the model's own, else 8].")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every place where it can be cut, not only those chosen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Export TARGET once and find where to cut it.  Nothing is trained or kept; --json lists every cut.

    The factory is called without arguments and gives a torch.nn.Module; it returns one tensor, or one per exit.
    """
    from drlctl.models import split_network
    from drlctl.output import print_json, print_table, print_text

    split = split_network(target, shape, dtype, max_stages)
    if as_json:
        print_json(split)
        return
    chosen = [cut for cut in split.cuts if cut.stages is not None]
    shown = split.cuts if every else chosen
    exits = ", ".join(f"exit {exit} after {end}" for exit, end in enumerate(split.exit_ends))
    print_text(f"{split.target}: input {describe(split.input)}, {split.num_parameters:,} parameters, {len(chosen) - 1} stages ({exits})")
    print_text()
    print_table(
        ("cut", "operations before", "work before", "bytes", "exit"), [_row(cut) for cut in shown], [_tensors(cut) for cut in shown]
    )
    print_text()
    print_text(f"{len(split.cuts)} places to cut, {len(chosen)} chosen; cut 0 is the input, the last exit's head is behind the last cut")


def describe(spec: TensorSpec) -> str:
    """ "float32[1,3,64,64]"."""
    return f"{spec.dtype}[{','.join(str(extent) for extent in spec.shape)}]"


def _row(cut: Cut) -> tuple[str, ...]:
    number = "-" if cut.stages is None else str(cut.stages)
    return number, str(cut.position), f"{cut.flops_fraction:.1%}", f"{cut.num_bytes:,}", ",".join(str(exit) for exit in cut.exits)


def _tensors(cut: Cut) -> str:
    return " ".join(f"{name}:{describe(spec)}" for name, spec in zip(cut.tensors, cut.specs, strict=True))


def _show(entry: Entry) -> None:
    from drlctl.output import print_text

    spec = entry.spec
    print_text(f"model     {spec.name}  ({spec.factory})")
    print_text(f"input     {describe(spec.input)}")
    print_text(f"training  {f'{spec.fit.epochs} epochs on {spec.dataset}' if spec.dataset else 'none: weights as the factory draws them'}")
    if entry.manifest is None:
        print_text(f"built     no; the first command that needs it builds it; `drlctl models split {spec.name}` shows its cuts")
        return
    print_text(f"built     {entry.directory}")
    print_text(f"stages    {entry.manifest.num_stages}, exits after {', '.join(str(end) for end in entry.manifest.exit_ends)}")
    for name, variant in entry.manifest.variants.items():
        _show_variant(name, variant, entry.manifest.exit_ends)
    if entry.difficulty is not None:
        print_difficulty(entry.difficulty)


def print_difficulty(card: DifficultyCard) -> None:
    """How well the errors of each exit are told from the input, and whether that is used."""
    from drlctl.output import print_table, print_text

    print_text()
    print_text(f"errors told from the input: fitted on {card.num_samples} validation pictures, judged on the test split")
    rows = [
        (
            exit.variant,
            str(exit.exit),
            str(exit.num_errors),
            "-" if exit.auc is None else f"{exit.auc:.2f}",
            f"{exit.log_loss:.4f}",
            f"{exit.base_log_loss:.4f}",
            "yes" if exit.predicted else "no: not surely better than the base rate",
        )
        for exit in card.exits
    ]
    print_table(("variant", "exit", "errors fitted on", "AUC", "log loss", "of the base rate", "used"), rows)


def _show_variant(name: str, variant: VariantInfo, exit_ends: tuple[int, ...]) -> None:
    from drlctl.output import print_table, print_text

    print_text()
    print_text(f"variant {name}: {variant.size_bytes / 1e3:,.0f} kB")
    accuracy = variant.accuracy.get("test", ())
    rows = []
    for number, specs in enumerate(variant.cuts):
        seconds = f"{variant.stage_reference_s[number] * 1e3:.3f}" if number < len(variant.stage_reference_s) else ""
        leaving = [exit for exit, end in enumerate(exit_ends) if end == number]
        exits = " ".join(f"{exit}: {accuracy[exit]:.1%}" if accuracy else str(exit) for exit in leaving)
        rows.append((str(number), f"{variant.cut_bytes(number):,}", seconds, exits, " ".join(describe(spec) for spec in specs)))
    print_table(("cut", "bytes", "next stage ms", "exit", "tensors"), rows)
