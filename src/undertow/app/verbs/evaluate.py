"""``undertow evaluate``: how good a trained model is, beside baselines."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]",
            help="Data with the truth; for sound INPUT.wav TARGET.wav. "
            "(default: the part of its data held back to validate)",
        ),
    ] = None,
    metric: Annotated[
        Literal["rmse", "mae", "mase", "nse", "kge", "bias"] | None,
        typer.Option(
            help="Metric of forecasts that orders the series and is shown by rows ahead. (default: rmse)"
        ),
    ] = None,
    backtest: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Score K consecutive periods one by one.")
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train anew before each period, on the rows before it.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the runs of --retrain in this folder.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu or cuda. (default: cpu; for --retrain as in the training)"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write all metrics to this .json or .csv file."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the evaluation into this .png file.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files in --output and --picture.")
    ] = False,
) -> None:
    """Say how good a trained model is, beside baselines.

    A forecast is scored overall, by series and by rows ahead, against the last
    value, the value one season ago, the seasonal mean, and a linear model of the
    same window. Labels are scored by class, with a confusion matrix. A text is
    scored in bits, against the frequencies of symbols and of pairs; a sound
    against the best linear filter.

    --backtest K scores K consecutive periods of the part held back, or of all of
    another FILE. With --retrain each period is scored with a new training on the
    rows before it; the periods then fill the last part of FILE, as long as the
    part held back in the training.
    """
    from undertow.app.evaluation.asked import check_asked, check_data, check_picture, read_on
    from undertow.app.outputs import check_output
    from undertow.app.runs.folder import files_of
    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_run
    from undertow.app.working import shown

    sources = [*(data or []), *files_of(run)]
    if output is not None:
        check_output(output, (".json", ".csv"), overwrite, sources=sources)
    if picture is not None:
        check_output(picture, (".png",), overwrite, "--picture", sources)
    opened = open_run(run)
    check_asked(opened, backtest, retrain, keep, metric)
    read_on(opened, device)
    check_picture(opened.data.task, backtest, picture)
    path = check_data(opened, data or [])
    from undertow.app.evaluation import result, view  # which import NumPy and rich
    from undertow.app.evaluation.evaluate import answer

    console = Terminal()

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True)

    with shown(console):
        found = answer(opened, path, backtest, retrain, keep, tell)
    if output is not None:
        result.write(found, output)
    if picture is not None:
        from undertow.app.evaluation.picture import draw  # which imports matplotlib

        draw(found, metric or "rmse", picture)
    view.show(console, found, metric or "rmse")
    for what, path in (("All metrics", output), ("A picture", picture)):
        if path is not None:
            console.print(f"{what} written to {path}", soft_wrap=True)
