"""What ``undertow classics`` shows: its progress, then the table, on the terminal and in files."""

import json
import time
from datetime import date

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from undertow import __version__
from undertow.app.classics import picture as classics_picture
from undertow.app.classics.results import Results, Row, Side
from undertow.app.classics.trial import Outcome, Trial
from undertow.app.loop import Hook, Loop, Step
from undertow.app.outputs import atomically
from undertow.app.signals import Interrupt
from undertow.app.terminal import REFRESH, clock, marked
from undertow.app.words import counted
from undertow.app.working import bars

HEADINGS = (
    "problem", "T", "H", "N", "LSTM starts", "LSTM solved", "sequences, median", "range", "published",
    "wrong", "verdict", "plain RNN solved", "given", "RNN wrong",
)  # fmt: skip
CAPTION = (
    "Solved: the criterion of the paper that posed the problem, asked of fresh sequences while training; "
    "pass: every LSTM met it. Sequences: trained on until then, counted one by one, though learnt from in "
    "minibatches of N with Adam, where the published figures are for one at a time; so compare orders of "
    "magnitude. LSTM starts: torch's initial values, or an option of undertow.LSTM. Wrong: share of fresh "
    "sequences that the paper would call processed wrongly at the end, the worst seed. Given: sequences a "
    "plain RNN with as many units got without solving it, up to four times what the slowest LSTM needed."
)
QUICK = "Quick: one seed, and the longest lags shortened or left out; docs/classics.md has the full table."


def train(results: Results, console: Console, device: str = "cpu") -> int:
    """Train the networks that are still to be trained, and show how far they are.

    Args:
        results: The outcomes so far; each new one is added, and is on disk before the next begins.
        console: Where progress is shown.
        device: Where the networks compute: cpu or cuda.

    Returns:
        The exit code: 0, or 128 and the number of the signal that stopped it.
    """
    todo = list(results.todo())
    done = sum(2 * setting.seeds for setting in results.settings) - len(todo)
    if done and todo:
        are = "is" if done == 1 else "are"
        console.print(f"{counted(done, 'network')} {are} trained already, {len(todo)} to go.")
    with Interrupt() as interrupt, bars(console) as progress:
        bar = progress.add_task("starting", total=None, tail="")
        for number, (setting, cell, seed) in enumerate(todo, 1):
            began = time.monotonic()
            trial = Trial(setting, cell, seed, results.most(setting, cell), device)
            progress.update(bar, description=f"{number}/{len(todo)}", total=trial.most, completed=0)
            trial.run([Watch(trial, progress, bar)], interrupt)
            if interrupt.asked:
                break
            outcome = trial.outcome(time.monotonic() - began)
            results.add(outcome)
            progress.console.print(marked(_said(outcome)))
    if interrupt.asked:
        console.print(f"Stopped by {interrupt.name}; what is done is kept. The same command goes on.")
    return interrupt.code


class Watch(Hook):
    """Shows in the live line where a trial stands."""

    def __init__(self, trial: Trial, progress: Progress, bar: TaskID) -> None:
        self.trial, self.progress, self.bar = trial, progress, bar
        self.began, self.drawn = time.monotonic(), 0.0

    def on_step(self, loop: Loop, steps: list[Step]) -> None:
        """Update the line, at most once every REFRESH seconds."""
        if time.monotonic() - self.drawn > REFRESH:
            self.drawn = time.monotonic()
            standing = _standing(self.trial, self.drawn - self.began)
            self.progress.update(self.bar, completed=self.trial.sequences, tail=standing)


def _standing(trial: Trial, seconds: float) -> str:
    """Where a trial stands, short enough for a line of 80 columns with a bar of its sequences."""
    return f"{trial.setting.row} {trial.cell}, seed {trial.seed}: {trial.share:.0%} right, {clock(seconds)}"


NAMES = {"LSTM": "LSTM", "RNN": "plain RNN"}


def _said(outcome: Outcome) -> str:
    """How a trial ended, in a line."""
    ended = "[green]solved[/] after" if outcome.solved else "[red]not solved[/] in"
    return (
        f"{outcome.row:24} {NAMES[outcome.cell]:9} seed {outcome.seed}  {ended} {outcome.sequences:,} "
        f"sequences, {outcome.wrong} of {outcome.tested:,} wrong, {clock(outcome.seconds)}"
    )


def write(results: Results, quick: bool, console: Console) -> None:
    """Print the table, and write it as Markdown, JSON and a picture.

    Args:
        results: The outcomes, and the folder to write into.
        quick: Whether the lags are those of --quick, which the table then says.
        console: Where the table is printed.
    """
    rows, folder = results.rows(), results.folder
    content = {
        "undertow": __version__,
        "made": date.today().isoformat(),
        "quick": quick,
        "caption": CAPTION,
        "rows": [row.to_dict() for row in rows],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    atomically(folder / "classics.json", lambda path: path.write_text(text, encoding="utf-8"))
    page = _markdown(rows, quick)
    atomically(folder / "classics.md", lambda path: path.write_text(page, encoding="utf-8"))
    atomically(folder / "classics.png", lambda path: classics_picture.draw(results, path))
    console.print(_table(rows))
    console.print(marked(f"[dim]{QUICK}[/]" if quick else ""))
    console.print(
        marked("The table, its numbers and a picture: [bold]{folder}[/]", folder=folder), soft_wrap=True
    )


def _table(rows: list[Row]) -> Table:
    """The table as a terminal shows it, in 80 columns."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("problem")
    for heading in ("LSTM", "sequences", "published", "", "plain RNN"):
        grid.add_column(heading, justify="right" if heading != "" else "left")
    colors = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "not run": "[dim]not run[/]"}
    for row in rows:
        grid.add_row(
            f"{row.problem} T={row.steps}", _of(row.lstm), _number(row.lstm.sequences if row.lstm else None),
            _number(row.published), marked(colors[row.verdict]), _of(row.rnn),
        )  # fmt: skip
    return grid


def _markdown(rows: list[Row], quick: bool) -> str:
    """The whole table with its caption."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|" + "--:|" * 3 + "---|" + "--:|" * 9]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", CAPTION, *(["", QUICK] if quick else [])]) + "\n"


def _cells(row: Row) -> list[str]:
    """A row of the Markdown table, under HEADINGS."""
    lstm, rnn = row.lstm, row.rnn
    spread = f"{lstm.fewest:,} to {lstm.most:,}" if lstm and lstm.fewest != lstm.most else ""
    return [
        row.problem, str(row.steps), str(row.hidden_size), str(row.batch_size), row.start, _of(lstm),
        _number(lstm.sequences if lstm else None), spread, _number(row.published), _share(lstm), row.verdict,
        _of(rnn), _number((rnn.given or rnn.sequences) if rnn else None), _share(rnn),
    ]  # fmt: skip


def _of(one: Side | None) -> str:
    return "" if one is None else f"{one.solved} of {one.trials}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _share(one: Side | None) -> str:
    return "" if one is None else f"{100 * one.wrong:.1f} %"
