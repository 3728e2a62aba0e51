"""The run folder: everything that a training leaves behind, written so that nothing saved is ever lost.

    config.json         options, data facts and fingerprint, seed, versions: enough to repeat the run
    model.safetensors   the best weights so far, and the normaliser
    last.safetensors    where training stands: weights, optimiser, carried state, random numbers
    metrics.jsonl       one line for each evaluation
    curve.png           the learning curve
    interval.safetensors  of a forecast, the intervals of the best weights
    tensorboard         with --logger tensorboard, the metrics as its event files

Each file is written beside its place and then renamed, so a crash cannot leave half of it. No pickle.
"""

import hashlib
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

import undertow
from undertow.app.errors import UserError
from undertow.app.outputs import atomically
from undertow.app.runs import facts, interval, records, shapes
from undertow.app.runs.config import DataConfig, ModelConfig, TrainConfig, check_together, to_dict
from undertow.app.runs.options import read
from undertow.app.words import counted

if TYPE_CHECKING:
    from torch import Tensor

    from undertow.app.runs.model import SequenceModel

FORMAT = 1  # of the run folder; a newer one is refused
FILES = ("config.json", "model.safetensors", "last.safetensors", "metrics.jsonl", "curve.png")
SCORES, MEMBERS = (
    "ensemble.json",
    "members",
)  # of an ensemble: a file, and a folder with a run for each member
LOGS = "tensorboard"  # a folder, of --logger tensorboard
MAYBE = (interval.FILE, SCORES)  # of some runs only
REPORT, DOCTOR = "report.html", "doctor.html"  # written by inspect and doctor


@dataclass
class Run:
    """A run folder, what its config.json says, and where its network reads."""

    folder: Path
    data: DataConfig
    model: ModelConfig
    training: TrainConfig
    facts: dict[str, Any]  # what the task needs to read further data the same way
    source: dict[str, Any] = field(default_factory=dict)  # fingerprint of the data
    baselines: dict[str, float] = field(default_factory=dict)
    init_from: dict[str, str] = field(default_factory=dict)  # the run whose weights it began with, if any
    unit: str = ""
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"  # or cuda: where ``together.network_of`` puts the network

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    def write_config(self) -> None:
        """Write config.json. Raises UserError if it cannot be written, as the other writing methods do."""
        content = {
            "undertow_run": FORMAT,
            "created": self.created,
            "versions": self.versions,
            "source": self.source,
            "data": to_dict(self.data),
            "model": to_dict(self.model),
            "training": to_dict(self.training),
            "unit": self.unit,
            "baselines": self.baselines,
            "init_from": self.init_from,
            "facts": self.facts,
        }
        text = records.dump(content, indent=2) + "\n"
        atomically(self.path("config.json"), lambda path: path.write_text(text, encoding="utf-8"))

    def write_model(self, best: Mapping[str, "Tensor"]) -> None:
        """Write the best weights so far, a model's ``state_dict``."""
        from undertow.app.runs import weights

        weights.write_model(self.path("model.safetensors"), best)

    def write_last(self, tensors: dict[str, "Tensor"], state: dict[str, Any]) -> None:
        """Write where training stands.

        Args:
            tensors: Weights, optimiser, carried state and random numbers, by name.
            state: Plain values, a ``Position``.
        """
        from undertow.app.runs import weights

        weights.write_state(self.path("last.safetensors"), tensors, state)

    def read_last(self) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
        """Read what ``write_last`` wrote.

        Returns:
            The tensors, and the plain values.

        Raises:
            UserError: The file is missing or damaged.
        """
        from undertow.app.runs import weights

        path = self.path("last.safetensors")
        tensors, state = weights.read_state(path)
        return tensors, records.check_state(state, str(path))

    def load_model(self) -> "SequenceModel":
        """Load the best model on the CPU, in eval mode. Raises UserError if its file is damaged or gone."""
        from undertow.app.runs import weights

        return weights.read_model(self.path("model.safetensors"), self.model)

    def count_parameters(self) -> int:
        """Count the best model's parameters. Raises UserError if its file is missing or damaged."""
        path = self.path("model.safetensors")
        found = header(path)
        shapes.check(found, shapes.expected(self.model), path)
        return sum(math.prod(shape) for name, shape in found.items() if name not in shapes.BUFFERS)

    def describe(self, parameters: int) -> str:
        """Describe the network in a few words: its cell, layers, units and number of parameters."""
        model = self.model
        layers, units = counted(model.num_layers, "layer"), counted(model.hidden_size, "unit")
        both = " in both directions" if model.bidirectional else ""
        return f"{model.cell.upper()}, {layers} of {units}{both}, {parameters:,} parameters"

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl, a line for each row."""
        text = "".join(records.dump(row) + "\n" for row in rows)
        atomically(self.path("metrics.jsonl"), lambda path: path.write_text(text, encoding="utf-8"))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read metrics.jsonl; no rows before the first evaluation. Raises UserError if a line is damaged."""
        path = self.path("metrics.jsonl")
        if not path.exists():
            return []
        try:
            found = [records.load(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError:
            raise UserError(f"{path}: damaged: a line is not JSON") from None
        return records.check_rows(found, str(path))


def files_of(run: Path) -> list[Path]:
    """Return the files that a run consists of; for the file of a network, that file."""
    return [run / name for name in (*FILES, *MAYBE)] if run.is_dir() else [run]


def open_run(folder: Path) -> Run:
    """Read a run folder.

    Args:
        folder: The folder.

    Returns:
        The run.

    Raises:
        UserError: It is no run folder, or its config.json is damaged or of another version.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if not path.exists():
        raise UserError(f"{folder}: not a run folder (it holds no config.json)")
    try:
        content = records.load(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged: not JSON ({error})") from None
    return _parse_config(folder, path, content)


def _parse_config(folder: Path, path: Path, content: Any) -> Run:
    if not isinstance(content, dict) or "undertow_run" not in content:
        raise UserError(f"{path}: not written by undertow (it has no 'undertow_run')")
    if type(content["undertow_run"]) is not int or content["undertow_run"] != FORMAT:
        versions = content.get("versions")
        made_by = versions.get("undertow") if isinstance(versions, dict) else "another version"
        raise UserError(
            f"{path}: run format {content['undertow_run']!r} (undertow {made_by}); "
            f"this is undertow {undertow.__version__}, which reads format {FORMAT}"
        )
    for name in ("data", "model", "training", "facts"):
        if name not in content:
            raise UserError(f"{path}: damaged: {name!r} is missing")
    model = read(ModelConfig, content["model"], f"{path}: model")
    check_together(to_dict(model), f"{path}: model: ")
    data = read(DataConfig, content["data"], f"{path}: data")
    training = read(TrainConfig, content["training"], f"{path}: training")
    facts.check(content["facts"], data, model, str(path))
    rest = records.check_rest(content, data.task, str(path))
    return Run(folder, data, model, training, content["facts"], **rest)


def header(path: Path) -> dict[str, list[int]]:
    """Read the names and shapes of the tensors in a file, without torch.

    Args:
        path: A safetensors file.

    Returns:
        The shape of each tensor, by name.

    Raises:
        UserError: The file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: missing from the run folder")
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error})") from None


def stamp() -> tuple[str, dict[str, str]]:
    """Say when and with which versions a run is made.

    Returns:
        The time in UTC, ISO 8601, and the version of each package on which the result depends.
    """
    packages = ("torch", "lightning-fabric", "polars", "numpy", "safetensors")
    versions = {"undertow": undertow.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in packages}
    return datetime.now(timezone.utc).isoformat(timespec="seconds"), versions


def fingerprint(path: Path, *further: str) -> dict[str, Any]:
    """Identify data by their content.

    Args:
        path: A file or folder.
        *further: More of them.

    Returns:
        ``path``, ``bytes`` of all files together, and ``sha256``: of the file, or of all files' digests.
    """
    files = [
        each for one in (path, *map(Path, further)) for each in (_contents(one) if one.is_dir() else [one])
    ]
    digests = [_digest(each) for each in files]
    found = digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"path": str(path), "bytes": sum(each.stat().st_size for each in files), "sha256": found}


def _contents(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read()).hexdigest()  # Python 3.10
