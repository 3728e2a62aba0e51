"""The targets of ``undertow export``: what writes each, and the files that it makes."""

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from undertow import networks
from undertow.app.errors import UserError
from undertow.app.exporting import onnx
from undertow.app.inputs import read_network
from undertow.app.runs import members
from undertow.app.runs.folder import Run
from undertow.app.training.leftovers import open_run
from undertow.networks import Network


def _plainly(network: Network, path: Path, dtype: str = "float32") -> list[str]:
    networks.write(network, path, dtype=dtype)
    return []


@dataclass(frozen=True)
class Target:
    """A target.

    Attributes:
        suffix: The ending of the file's name, which ``networks.formats`` knows.
        write: Writes a network and returns lines that say more than the files' names.
        write_forecast: The same for a run whose forecasts no Network represents. None: the target cannot.
    """

    suffix: str
    write: Callable[[Network, Path], list[str]] = _plainly
    write_forecast: Callable[[Run, Path], list[str]] | None = None

    def named(self, source: Path) -> Path:
        """Return the file, here, with the name of the source; that of a program can be imported."""
        stem = source.resolve().stem
        if self.suffix in (".c", ".py"):
            stem = re.sub(r"\W", "_", stem, flags=re.ASCII)
            stem = f"network_{stem}" if keyword.iskeyword(stem) or not stem.isidentifier() else stem
        return Path(f"{stem}{self.suffix}")


TARGETS = {
    "onnx": Target(".onnx", onnx.write, onnx.write_forecast),
    "c": Target(".c"),
    "nam": Target(".nam"),
    "rtneural": Target(".json"),
    "torch": Target(".py"),
    "safetensors": Target(".safetensors"),
}


def chosen(to: str | None, output: Path | None) -> Target:
    """Choose the target by ``--to``, else by the ending of ``--output``.

    Args:
        to: The target's name; None if the option was left out.
        output: The file; None if the option was left out.

    Returns:
        The target.

    Raises:
        UserError: There is no such target, or neither option was given.
    """
    known = ", ".join(TARGETS)
    if to is not None:
        if to not in TARGETS:
            raise UserError(f"--to: expected {known}, got {to}")
        return TARGETS[to]
    found = [each for each in TARGETS.values() if output is not None and output.suffix == each.suffix]
    if not found:
        raise UserError(f"--to: expected {known}" + (f", since --output is {output}" if output else ""))
    return found[0]


def check_dtype(target: Target, dtype: str, source: Path, data: Path | None) -> None:
    """Check ``--dtype`` and ``--data``.

    Args:
        target: The target.
        dtype: The type of the weights.
        source: The run folder or the file.
        data: Labelled data; None if the option was left out.

    Raises:
        UserError: The type is unknown, the target has one type only, or int8 is asked for what tells no
            classes.
    """
    if dtype not in networks.DTYPES:
        raise UserError(f"--dtype: expected {', '.join(networks.DTYPES)}, got {dtype}")
    if dtype != "float32" and target.suffix != ".safetensors":
        raise UserError(f"--dtype {dtype}: expected with --to safetensors")
    if data is not None and dtype != "int8":
        raise UserError(f"--data {data}: expected with --dtype int8, whose accuracy is measured")
    if dtype == "int8" and (not source.is_dir() or open_run(source).data.task != "classify"):
        raise UserError(f"--dtype int8: expected the run of a classifier (--label), got {source}")


def write(source: Path, target: Target, path: Path, dtype: str = "float32") -> list[str]:
    """Write a network for a target.

    Args:
        source: A run folder or a file.
        target: The target.
        path: The first file to write.
        dtype: Of the weights in a ``.safetensors`` file.

    Returns:
        Lines that say more than the files' names.

    Raises:
        UserError: The source cannot be read, the target cannot hold it, or a file cannot be written.
    """
    if dtype != "float32":
        target = replace(target, write=partial(_plainly, dtype=dtype))
    try:
        if not source.is_dir():
            return target.write(read_network(source), path)
        run = open_run(source)
        if members.is_ensemble(run):
            raise UserError(f"{source}: an ensemble; export a member, such as {members.plan(run, 1).folder}")
        read = onnx.features(run)
        about = [f"features of x: {', '.join(read)}"] if read else []
        if run.model.residual and target.write_forecast is not None:
            return target.write_forecast(run, path) + about
        return target.write(read_network(source), path) + about
    except (ValueError, OSError) as error:  # Unsupported among them; a message begins with its file
        raise UserError(str(error)) from None
