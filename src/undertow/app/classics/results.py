"""What has been found, in the folder: a line of JSON for each network, and what they come to."""

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
    """How one kind of network did on one problem. Medians and extremes over seeds."""

    trials: int
    solved: int
    sequences: int | None  # median until the criterion held, of those that solved it
    fewest: int | None
    most: int | None
    given: int  # the most sequences that one got without solving it; 0 if all did
    wrong: float  # share of fresh sequences processed wrongly at the end, the worst of them
    parameters: int
    seconds: float  # in all


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
        """``pass`` where every LSTM met the criterion."""
        if self.lstm is None:
            return "not run"
        return "pass" if self.lstm.solved == self.lstm.trials else "fail"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


class Results:
    """The outcomes in ``folder`` for these settings; raises UserError where it holds something else."""

    def __init__(self, folder: Path, settings: list[Setting], overwrite: bool) -> None:
        self.folder, self.settings, self.path = folder, settings, folder / LINES
        foreign = folder.is_dir() and any(folder.iterdir()) and not self.path.exists()
        if foreign:
            raise UserError(f"--output: {folder} holds other files and no results; choose another folder")
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
                    "--output takes another folder"
                )
            found.append(outcome)
        return found

    def todo(self) -> Iterator[tuple[Setting, str, int]]:
        """Setting, cell and seed of what is still to be done; for each problem the LSTMs first."""
        done = {(outcome.row, outcome.cell, outcome.seed) for outcome in self.outcomes}
        for setting in self.settings:
            for cell in CELLS:
                for seed in range(setting.seeds):
                    if (setting.row, cell, seed) not in done:
                        yield setting, cell, seed

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, on disk before anything else happens."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome.to_dict()) + "\n")
        self.outcomes.append(outcome)

    def most(self, setting: Setting, cell: str) -> int:
        """Sequences that a network of this kind gets at most."""
        lstms = self._of(setting, "LSTM")
        if cell == "LSTM" or not lstms or not all(outcome.solved for outcome in lstms):
            return setting.most
        return min(setting.most, RNN_PATIENCE * max(outcome.sequences for outcome in lstms))

    def rows(self) -> list[Row]:
        """The table, a row for each setting."""
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
    """What the outcomes of one kind of network come to; None where there are none yet."""
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
