"""What the command does, from Python: ``undertow.train`` and ``undertow.load_run``.

Both are the verbs without a command line: the same options, checks, errors and files.
"""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from undertow.app.errors import UserError
from undertow.app.reading import asked, frames, writer
from undertow.app.reading.sampling import Sampling
from undertow.app.runs.device import chosen
from undertow.app.runs.keywords import as_given
from undertow.app.terminal import Terminal
from undertow.app.training import begin, leftovers

Source = str | Path
Folder = str | Path
INTERRUPTED = 130  # the exit code after Ctrl-C


class Run:
    """A trained run: its network, its metrics, and what the verbs do with them.

    Args:
        folder: The run folder.

    Raises:
        UserError: It is no run folder, or it is damaged.
    """

    def __init__(self, folder: Folder) -> None:
        self._opened = leftovers.open_run(_path(folder, "RUN"))

    def __repr__(self) -> str:
        data, model = self._opened.data, self._opened.model
        return f"Run({str(self.folder)!r}): {data.task}, {model.cell.upper()} of {model.hidden_size} units"

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._opened.folder

    @cached_property
    def model(self) -> Any:
        """The network with the best weights, a torch module in eval mode; an ensemble is one module."""
        from undertow.app.runs.together import network_of

        return network_of(self._opened)

    @property
    def metrics(self) -> pl.DataFrame:
        """A row for each evaluation of the training, in order; for an ensemble with the member's number."""
        from undertow.app.runs import members

        parts = [pl.DataFrame(each.read_metrics()) for each in members.of(self._opened)]
        if len(parts) == 1:
            return parts[0]
        numbered = [part.with_columns(member=pl.lit(k)) for k, part in enumerate(parts, 1)]
        return pl.concat(numbered, how="diagonal_relaxed")

    def predict(self, table: Any, *, gaps: str | None = None, device: str = "cpu") -> Any:
        """Forecast or label a table, or play a recording, as ``undertow predict`` does.

        Args:
            table: A Polars or pandas DataFrame, or the path of a file or folder; with the training's columns.
                For sound: a recording's path, or samples [n] or [n,channels] at the rate of the training.
            gaps: error, fill, flag, split or ignore. None: as in the training.
            device: auto, cpu or cuda.

        Returns:
            A row for every prediction, with the truth where the table holds it: a pandas DataFrame if
            ``table`` is one, else a Polars DataFrame. For sound: the output samples, a NumPy array.

        Raises:
            UserError: The run was not trained on a table or on sound, the table does not fit it, or there is
                no such device.
        """
        opened = asked.check_run(self._fresh())
        opened.device = asked.device_of(opened, device)
        if asked.is_sound(opened, gaps):
            from undertow.app.reading.sounds import played

            return played(opened, table)
        from undertow.app.reading.answers import answer

        if gaps is not None:
            opened.data = asked.with_gaps(opened.data, gaps)
        with frames.as_file(table) as path:
            found = answer(opened, path).table
        return frames.like(table, found)

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = writer.LENGTH,
        temperature: float = writer.TEMPERATURE,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        stop: str | Sequence[str] = (),
        device: str = "cpu",
        seed: int | None = None,
    ) -> str:
        """Write text, as ``undertow generate`` does.

        Args:
            prompt: The text to continue. Empty: a new text.
            length: The symbols to write after the prompt.
            temperature: Below 1: more likely symbols; above 1: more variety; 0: always the likeliest.
            top_k: Draw from the K likeliest symbols. None: from all.
            top_p: Draw from the fewest symbols whose probabilities sum to this.
            min_p: Leave out symbols less likely than this share of the likeliest one's probability.
            stop: End before this text, or before any of several.
            device: auto, cpu or cuda.
            seed: The same seed gives the same text. None: another text each time.

        Returns:
            The prompt and what follows.

        Raises:
            UserError: The run was not trained on text, an option is out of range, or there is no such device.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p)
        stops = writer.check_stops([stop] if isinstance(stop, str) else list(stop))
        opened = writer.check_run(self._fresh())
        opened.device = chosen(device)

        def warn(said: str) -> None:
            warnings.warn(said, stacklevel=3)

        return "".join(writer.write(opened, prompt, length, sampling, stops, seed, warn))

    def evaluate(
        self,
        data: Source | Sequence[Source] | pl.DataFrame | None = None,
        *,
        backtest: int | None = None,
        retrain: bool = False,
        keep: Folder | None = None,
        device: str | None = None,
        quiet: bool = False,
    ) -> pl.DataFrame:
        """Say how good the network is beside baselines, as ``undertow evaluate`` does.

        Args:
            data: Data with the truth: a path, or a Polars or pandas DataFrame; for sound the two recordings.
                None: the part of the training's own data that was held back to validate.
            backtest: Score this number of consecutive periods one by one. None: no backtest.
            retrain: Train anew before each period, on the rows before it.
            keep: Keep the runs of these trainings in this folder. None: remove them.
            device: auto, cpu or cuda. None: cpu, and trainings where that of the run was.
            quiet: Whether to print nothing during these trainings.

        Returns:
            The rows of ``undertow evaluate --output``: one for each part of the data and each forecaster.

        Raises:
            UserError: The data or the options do not fit the run.
        """
        from undertow.app.evaluation.asked import check_asked, check_data, read_on
        from undertow.app.evaluation.evaluate import answer

        opened, folder = self._fresh(), None if keep is None else _path(keep, "--keep")
        check_asked(opened, backtest, retrain, folder)
        read_on(opened, device)
        console = Terminal(quiet=quiet)

        def tell(line: str) -> None:
            console.print(line, soft_wrap=True)

        if data is None or isinstance(data, list | tuple):
            path = check_data(opened, [Path(each) for each in data or ()])
            found = answer(opened, path, backtest, retrain, folder, tell)
        else:
            with frames.as_file(data) as path:
                found = answer(opened, path, backtest, retrain, folder, tell)
        return pl.DataFrame(found.rows, infer_schema_length=None)

    def _fresh(self) -> Any:
        """The run as its folder has it now: what reads with it may change its options."""
        return leftovers.open_run(self.folder)


def train(
    source: Source | Sequence[Source] | None = None,
    *,
    folder: Folder | None = None,
    resume: Folder | None = None,
    init_from: Folder | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Train an LSTM on a text, a table, two recordings or a built-in problem, as ``undertow train`` does.

    Args:
        source: A file or folder, several of them, or the name of a built-in problem. None with ``resume``.
        folder: The run folder. None: ``runs/SOURCE-n`` with the first n that is free.
        resume: The run to continue; ``epochs``, ``minutes``, ``patience`` and ``device`` may change.
        init_from: Start from the weights of this run.
        overwrite: Whether a run in ``folder`` may be replaced.
        quiet: Whether to print nothing.
        **options: The options of the command line (docs/options.md), with underscores: ``hidden_size=64``.
            An option that may be given several times takes a list.

    Returns:
        The trained run.

    Raises:
        UserError: The data, the options or the folder do not fit.
        KeyboardInterrupt: The training was interrupted. It is saved, and ``resume`` continues it.
    """
    ended = begin.begin(
        _sources(source),
        as_given(options),
        folder=None if folder is None else _path(folder, "--folder"),
        resume=None if resume is None else _path(resume, "--resume"),
        init_from=None if init_from is None else _path(init_from, "--init-from"),
        overwrite=overwrite,
        quiet=quiet,
        console=Terminal(quiet=quiet),
    )
    if ended.code == INTERRUPTED:
        raise KeyboardInterrupt
    if ended.code:
        raise SystemExit(ended.code)
    return Run(ended.folder)


def load_run(folder: Folder) -> Run:
    """Open a run that was trained before.

    Args:
        folder: The run folder.

    Returns:
        The run.

    Raises:
        UserError: It is no run folder, or it is damaged.
    """
    return Run(folder)


def _sources(source: Any) -> list[str]:
    """The sources as the command line has them. Raises UserError for a DataFrame and the like."""
    several = [] if source is None else [source] if isinstance(source, str | Path) else source
    if not isinstance(several, list | tuple) or not all(isinstance(each, str | Path) for each in several):
        kind = type(source).__name__
        raise UserError(
            f"source: expected a path, a list of paths or a problem, got {kind}; write a table to a file"
        )
    return [str(each) for each in several]


def _path(folder: Folder, what: str) -> Path:
    """The path of a folder. Raises UserError for an empty one, which would be the current folder."""
    if folder == "":
        raise UserError(f"{what}: expected a value, got an empty one")
    return Path(folder)
