"""``undertow export``: a trained network for other programs, such as ONNX Runtime, C and PyTorch."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="Folder of a run, or a network's file.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="onnx, c, torch, nam or rtneural. (default: as --output ends)"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. (default: here, with the run's name)")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Write a trained network for other programs.

    onnx · for ONNX Runtime and others, with one LSTM node a layer
    c · a header and a source in C99, without libraries
    torch · a program of PyTorch's own modules, to read and change
    nam, rtneural · sound: Neural Amp Modeler, RTNeural, AIDA-X

    ONNX Runtime runs an ONNX model before it is written, and the outputs are
    compared. What a target cannot hold is refused by name; forecasts have windows
    that ONNX alone can hold.

    FILE is a network of another program: Keras, ONNX, a state dict and others.
    """
    from undertow.app.inputs import check_source
    from undertow.app.outputs import check_output

    check_source(run)
    import undertow
    from undertow.app.exporting import targets  # which imports torch
    from undertow.app.terminal import Terminal

    target = targets.chosen(to, output)
    path = target.named(run) if output is None else output
    files = undertow.networks.files(path)
    check_output(path, (target.suffix,), overwrite)
    for each in files[1:]:
        check_output(each, (each.suffix,), overwrite)
    lines = targets.write(run, target, path)
    sizes = " and ".join(f"{each}, {each.stat().st_size:,} bytes" for each in files)
    Terminal().print("\n".join([f"written: {sizes}", *lines]), soft_wrap=True)
