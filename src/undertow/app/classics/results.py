"""The outcomes in a folder, a line of JSON for each network, and the table made from them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from undertow.app.classics.settings import RNN_PATIENCE, Setting
from undertow.app.classics.trial import CELLS, Outcome
from undertow.app.errors import UserError
from undertow.app.outputs import make_folder

LINES, MADE = "results.jsonl", ("classics.md", "classics.json", "classics.png")


@dataclass(frozen=True)
class Side:
    """The results of one kind of network on one problem, over its seeds."""

    trials: int
    solved: int
    sequences: int | None  # until the criterion held, the median of the networks that solved it
    fewest: int | None
    most: int | None
    given: int  # the most sequences that a network got without solving it; 0 if all solved it
    wrong: float  # share of fresh sequences processed wrongly at the end, of the worst network
    parameters: int
    seconds: float  # of all networks together


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    problem: str
    steps: int
    source: str
    criterion: str
    published: int | None
    hidden_size: int
    batch_size: int
    start: str
    lstm: Side | None
    rnn: Side | None

    @property
    def verdict(self) -> str:
        """``pass`` if every LSTM met the criterion, otherwise ``fail`` or ``not run``."""
        if self.lstm is None:
            return "not run"
        return "pass" if self.lstm.solved == self.lstm.trials else "fail"

    def to_dict(self) -> dict[str, Any]:
        """Return the row with its verdict as JSON holds it."""
        return asdict(self) | {"verdict": self.verdict}


class Results:
    """The outcomes in a folder.

    Args:
        folder: The folder; it is made if it does not exist.
        settings: The rows of the table.
        overwrite: Whether to remove the results that it holds.

    Raises:
        UserError: The folder holds other files, results of other settings or a damaged line.
    """

    def __init__(self, folder: Path, settings: list[Setting], overwrite: bool) -> None:
        self.folder, self.settings, self.path = folder, settings, folder / LINES
        foreign = folder.is_dir() and any(folder.iterdir()) and not self.path.exists()
        if foreign:
            raise UserError(f"--output {folder}: holds other files and no results; choose another folder")
        make_folder(folder, "--output")
        if overwrite:
            for name in (LINES, *MADE):
                (folder / name).unlink(missing_ok=True)
        self.outcomes = self._read()

    def _read(self) -> list[Outcome]:
        if not self.path.exists():
            return []
        rows, found = {setting.row: setting for setting in self.settings}, []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                outcome = Outcome(**json.loads(line))
                trained_with = Setting(**outcome.setting).fixed()
            except (ValueError, TypeError):
                where = f"{self.path}: line {number}"
                raise UserError(
                    f"{where} is damaged or of another version; delete it to train that network again"
                ) from None
            setting = rows.get(outcome.row)
            if setting is not None and setting.fixed() != trained_with:
                raise UserError(
                    f"{self.path}: {outcome.row} was trained with other settings; --overwrite starts anew, "
                    "--output names another folder"
                )
            found.append(outcome)
        return found

    def todo(self) -> Iterator[tuple[Setting, str, int]]:
        """Yield setting, cell and seed of each network still to be trained, of a problem the LSTMs first."""
        done = {(outcome.row, outcome.cell, outcome.seed) for outcome in self.outcomes}
        for setting in self.settings:
            for cell in CELLS:
                for seed in range(setting.seeds):
                    if (setting.row, cell, seed) not in done:
                        yield setting, cell, seed

    def add(self, outcome: Outcome) -> None:
        """Append an outcome to the file, then to ``outcomes``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome.to_dict()) + "\n")
        self.outcomes.append(outcome)

    def most(self, setting: Setting, cell: str) -> int:
        """Return how many sequences a network may be trained on.

        Args:
            setting: The row.
            cell: ``LSTM`` or ``RNN``.

        Returns:
            The setting's number; for an RNN at most RNN_PATIENCE times what the slowest LSTM needed.
        """
        lstms = self._of(setting, "LSTM")
        if cell == "LSTM" or not lstms or not all(outcome.solved for outcome in lstms):
            return setting.most
        return min(setting.most, RNN_PATIENCE * max(outcome.sequences for outcome in lstms))

    def rows(self) -> list[Row]:
        """Return the table, a row for each setting."""
        return [self._row(setting) for setting in self.settings]

    def _of(self, setting: Setting, cell: str) -> list[Outcome]:
        seeds = range(setting.seeds)
        return [o for o in self.outcomes if (o.row, o.cell) == (setting.row, cell) and o.seed in seeds]

    def _row(self, setting: Setting) -> Row:
        posed = setting.posed
        lstm, rnn = (_side(self._of(setting, cell)) for cell in CELLS)
        return Row(
            setting.problem, setting.steps, posed.source, posed.criterion.words,
            posed.published.get(setting.steps), setting.hidden_size, setting.batch_size,
            setting.start_in_words(), lstm, rnn,
        )  # fmt: skip


def _side(outcomes: list[Outcome]) -> Side | None:
    """Summarise the outcomes of one kind of network; None if there are none yet."""
    if not outcomes:
        return None
    needed = [outcome.sequences for outcome in outcomes if outcome.solved]
    return Side(
        trials=len(outcomes),
        solved=len(needed),
        sequences=int(median(needed)) if needed else None,
        fewest=min(needed, default=None),
        most=max(needed, default=None),
        given=max((outcome.sequences for outcome in outcomes if not outcome.solved), default=0),
        wrong=max(outcome.wrong / outcome.tested for outcome in outcomes),
        parameters=outcomes[0].parameters,
        seconds=round(sum(outcome.seconds for outcome in outcomes), 1),
    )
