"""`drlctl models build | exits | compress`: models for one's own data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from drlctl.commands.options import JsonOption, split_names

if TYPE_CHECKING:
    from drlctl.building import Built, VariantReport

TargetArgument = Annotated[
    str, typer.Argument(help="An architecture of the zoo, or package.module:factory; the current folder is searched too.")
]
NameOption = Annotated[str, typer.Option(help="What to call it in scenarios and commands [default: ARCHITECTURE@FOLDER].")]
EpochsOption = Annotated[
    int, typer.Option(min=0, show_default=False, help="Passes over the training pictures [default: the architecture's own].")
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Train on mirrored pictures too: for photographs, not for writing.")]
VariantsOption = Annotated[
    str, typer.Option(help="What to build, joined by commas: fp32, half, int8, pruned, slim, lowres, pruned+int8, ... [default: fp32].")
]


def build_command(
    target: TargetArgument,
    data: Annotated[str, typer.Option(help="Train on a folder of IDX files, CIFAR batches or pictures, or on 'digits'.")] = "",
    name: NameOption = "",
    epochs: EpochsOption = 0,
    variants: VariantsOption = "",
    flip: FlipOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train TARGET on your data, compress it, cut it, measure it; without --data: build a model of the zoo as it is."""
    from drlctl.building import build_model
    from drlctl.output import ProgressLine, print_json
    from runtime.models.wishes import Wishes

    wishes = Wishes(name=name, epochs=epochs, variants=split_names(variants), flip=flip)
    with ProgressLine() as progress:
        built = build_model(target, data, wishes, progress)
    if as_json:
        print_json(built)
    else:
        _print_heading(built)
        _print_variants(built)


def exits_command(
    target: TargetArgument,
    at: Annotated[int, typer.Option(min=1, help="Add so many early exits, spread evenly over the work.")],
    data: Annotated[str, typer.Option(help="Train on a folder of IDX files, CIFAR batches or pictures, or on 'digits'.")] = "digits",
    name: NameOption = "",
    epochs: EpochsOption = 0,
    variants: VariantsOption = "",
    flip: FlipOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a network of one exit early exits: nothing in it is changed, all exits are trained jointly.

    At each exit a request leaves when the answer is sure enough: the thresholds that save the most for at most 0.5 points of
    accuracy are found on the validation split, and what they give is shown for the test split.
    """
    from drlctl.building import build_model
    from drlctl.output import ProgressLine, print_json
    from runtime.models.wishes import Wishes

    wishes = Wishes(name=name, epochs=epochs, variants=split_names(variants), flip=flip, num_exits=at)
    with ProgressLine() as progress:
        built = build_model(target, data, wishes, progress)
    if as_json:
        print_json(built)
        return
    _print_heading(built)
    for variant, report in built.variants.items():
        _print_exits(variant, report, built.exit_ends)


def compress_command(
    model: Annotated[str, typer.Argument(help="A model that is trained; `drlctl models list` names them.")],
    variant: Annotated[str, typer.Option(help="What to add: half, int8, pruned, slim, lowres, or a pair like pruned+int8.")],
    flops: Annotated[float | None, typer.Option(help="Share of the FLOPs to keep, for pruned and slim [default: 0.5 and 0.25].")] = None,
    name: Annotated[str, typer.Option(help="What to call it [default: as it is; a model of the zoo becomes NAME-VARIANT].")] = "",
    as_json: JsonOption = False,
) -> None:
    """Add a smaller variant to a trained MODEL, and compare them all."""
    from drlctl.building import compress_model
    from drlctl.output import ProgressLine, print_json

    with ProgressLine() as progress:
        before, after = compress_model(model, variant, flops, name, progress)
    if as_json:
        print_json({"before": before, "after": after})
        return
    _print_heading(after)
    _print_variants(after)
    _print_stages(after)


def _print_heading(built: Built) -> None:
    from drlctl.output import print_text

    print_text(f"{built.name}: {built.exit_ends[-1]} stages, exits after {', '.join(str(end) for end in built.exit_ends)}")
    print_text(built.directory)
    print_text()


def _print_variants(built: Built) -> None:
    from drlctl.output import print_table

    rows = [_row(variant, report) for variant, report in built.variants.items()]
    print_table(("variant", "test accuracy", "parameters", "MFLOPs", "on disk kB", "loaded MB", "ms"), rows)


def _row(variant: str, report: VariantReport) -> tuple[str, ...]:
    whole_s = sum(report.stage_reference_s) + report.head_reference_s[-1]
    return (
        variant,
        " ".join(f"{accuracy:.1%}" for accuracy in report.accuracy) or "-",
        f"{report.num_parameters:,}",
        f"{report.flops / 1e6:.2f}",
        f"{report.stored_bytes / 1e3:,.0f}",
        f"{report.loaded_bytes / 1e6:.1f}" if report.loaded_bytes is not None else "-",
        f"{whole_s * 1e3:.3f}",
    )


def _print_stages(built: Built) -> None:
    from drlctl.output import print_table, print_text

    print_text()
    print_text("ms of each stage")
    stages = tuple(str(stage) for stage in range(built.exit_ends[-1]))
    rows = [(variant, *(f"{stage_s * 1e3:.3f}" for stage_s in report.stage_reference_s)) for variant, report in built.variants.items()]
    print_table(("variant", *stages), rows)


def _print_exits(variant: str, report: VariantReport, exit_ends: tuple[int, ...]) -> None:
    from drlctl.output import print_table, print_text

    print_text(f"variant {variant}")
    sure = report.confidence
    thresholds = [f"{threshold:.4f}" for threshold in sure.thresholds] if sure else []
    shares = [f"{share:.1%}" for share in sure.shares] if sure else ["100.0%"]
    cells = zip(exit_ends, report.accuracy, [*thresholds, "-"], shares, strict=True)
    rows = [(str(exit), str(end), f"{right:.1%}", below, share) for exit, (end, right, below, share) in enumerate(cells)]
    print_table(("exit", "after stage", "test accuracy", "leaves below entropy", "leave here"), rows)
    if sure:
        print_text(f"leaving when sure: {sure.accuracy:.1%} right, {sure.saved_fraction:.0%} of the time saved")
    print_text()
