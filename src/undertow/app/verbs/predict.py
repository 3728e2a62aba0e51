"""``undertow predict``: forecasts or labels for a table, with the error if the truth is known."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.text import Text

    from undertow.app.reading.answers import Answers

SHOWN = 10  # rows printed


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run trained on a table or on sound.")],
    table: Annotated[
        Path,
        typer.Argument(
            help="Table, or folder of tables, with the columns of the training; for sound a recording."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write all predictions to this .csv or .parquet file, sound to this .wav file.",
        ),
    ] = None,
    gaps: Annotated[
        str | None,
        typer.Option(help="error, fill, flag, split or ignore. (default: as in the training)"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file in --output.")] = False,
) -> None:
    """Forecast or label a table, or play a recording, with a trained model.

    The table is read in the same way as that of the training: config.json holds
    encoding, separator, forms of numbers and times. Only --gaps may differ.

    A forecast is made after every window of rows; the last one is for the rows
    after the table. Each sequence, or each of its steps, gets a class or number.
    If the truth is known, the error is printed beside that of simple baselines.

    A recording is played through a network that has learnt a device, each channel
    by itself, and written as 32-bit float.
    """
    from undertow.app.errors import UserError
    from undertow.app.inputs import check_source
    from undertow.app.outputs import check_output
    from undertow.app.reading.asked import check_run, device_of, is_sound, with_gaps
    from undertow.app.runs.folder import files_of
    from undertow.app.terminal import Terminal
    from undertow.app.training.leftovers import open_run
    from undertow.app.words import counted
    from undertow.app.working import shown

    opened = check_run(open_run(run))
    opened.device = device_of(opened, device)
    sound = is_sound(opened, gaps)
    if sound and output is None:
        raise UserError("--output: expected the WAV file to write, such as -o OUTPUT.wav")
    if output is not None:
        check_output(
            output, (".wav",) if sound else (".csv", ".parquet"), overwrite, sources=[table, *files_of(run)]
        )
    check_source(table)
    if sound and output is not None:
        from undertow.app.reading.sounds import play

        Terminal().print(play(opened, table, output), soft_wrap=True)
        return
    if gaps is not None:
        opened.data = with_gaps(opened.data, gaps)
    from undertow.app.reading.answers import answer  # which imports torch and polars

    console = Terminal()
    with shown(console):
        answers = answer(opened, table)
    if output is not None:
        _write(answers.table, output)
    show(console, answers)
    if output is not None:
        written = f"{counted(len(answers.table), 'prediction')} written to {output}"
        console.print(written, soft_wrap=True)


def _write(table: "pl.DataFrame", output: Path) -> None:
    from undertow.app.outputs import atomically

    made = io.BytesIO()  # polars raises errors of its own if the disk is full
    if output.suffix.lower() == ".parquet":
        table.write_parquet(made)
    else:
        table.write_csv(made)
    atomically(output, lambda path: path.write_bytes(made.getvalue()))


def show(console: "Console", answers: "Answers") -> None:
    """Print the first or last rows, and the errors.

    Args:
        console: Where they are printed.
        answers: The predictions.
    """
    from rich.table import Table

    from undertow.app import words
    from undertow.app.terminal import marked

    rows = answers.table.tail(SHOWN) if answers.newest_last else answers.table.head(SHOWN)
    grid = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in rows.columns:
        side: Any = "right" if rows.schema[name].is_numeric() else "left"
        grid.add_column(words.cell(name), justify=side, no_wrap=True)
    for row in rows.iter_rows():
        grid.add_row(*(_cell(value) for value in row))
    which = "last" if answers.newest_last else "first"
    if len(rows) < len(answers.table):
        console.print(marked(f"[dim]the {which} {len(rows)} of {len(answers.table):,} predictions[/]"))
    console.print(grid)
    console.print()
    for line in answers.lines:
        console.print(line)


def _cell(value: Any) -> "Text":
    """A value as shown: numbers with four digits, and ``unknown`` for None."""
    from rich.text import Text

    from undertow.app import words

    if value is None:
        return Text("unknown", style="dim")
    return Text(f"{value:.4g}" if isinstance(value, float) else words.cell(value))
