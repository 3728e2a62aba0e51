"""``undertow export``: a trained network for other programs, such as ONNX Runtime, C and PyTorch."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Folder of a run, or a network's file.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET", help="onnx, c, torch, safetensors, nam or rtneural. (default: as --output ends)"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. (default: here, with the run's name)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE", help="Weights in safetensors: float32, int16 or, for a classifier, int8."
        ),
    ] = "float32",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="With int8: labelled data. (default: those held back)"),
    ] = None,
) -> None:
    """Write a trained network for other programs.

    onnx · for ONNX Runtime and others, with one LSTM node a layer
    c · a header and a source in C99, without libraries
    torch · a program of PyTorch's own modules, to read and change
    safetensors · for undertow.stream and undertow.load; --dtype int16 halves it
    nam, rtneural · sound: Neural Amp Modeler, RTNeural, AIDA-X

    Before an ONNX model is written, ONNX Runtime runs it, and the outputs are
    compared. If a target cannot hold a network, the error names the part. Only
    ONNX holds forecasts, which have windows.

    --dtype int8 is for classifiers; the loss of accuracy is printed.
    FILE is a network of another program: Keras, ONNX, a state dict and others.
    """
    from undertow.app.inputs import check_source
    from undertow.app.outputs import check_output

    check_source(run)
    import undertow
    from undertow.app.exporting import targets  # which imports torch
    from undertow.app.runs.folder import files_of
    from undertow.app.terminal import Terminal

    target = targets.chosen(to, output)
    targets.check_dtype(target, dtype, run, data)
    path = target.named(run) if output is None else output
    files = undertow.networks.files(path)
    sources = [*files_of(run), *([data] if data else [])]
    check_output(path, (target.suffix,), overwrite, sources=sources)
    for each in files[1:]:
        check_output(each, (each.suffix,), overwrite, sources=sources)
    told = [_accuracy(run, dtype, data)] if dtype == "int8" else []
    lines = [*targets.write(run, target, path, dtype), *told]
    sizes = " and ".join(f"{each}, {each.stat().st_size:,} bytes" for each in files)
    console = Terminal()
    console.print(f"written: {sizes}", soft_wrap=True)
    for line in lines:
        console.print(line)


def _accuracy(folder: Path, dtype: str, data: Path | None) -> str:
    """Say what the rounding of the weights costs a classifier."""
    from tempfile import TemporaryDirectory

    from undertow.app.evaluation.asked import check_data
    from undertow.app.evaluation.evaluate import evaluate
    from undertow.app.exporting.narrow import rounded
    from undertow.app.training.leftovers import open_run

    run = open_run(folder)
    given = check_data(run, [] if data is None else [data])
    with TemporaryDirectory() as name:
        both = [evaluate(each, given) for each in (run, rounded(run, dtype, Path(name)))]
    before, after = (f"{100 * found.rows[0]['accuracy']:.1f} %" for found in both)
    of = f"{both[0].rows[0]['n']:,} answers on {Path(both[0].file).name}"
    held_back = ", the part held back in the training" if data is None else ""
    return f"accuracy: {before} in float32, {after} in {dtype} ({of}{held_back})"
