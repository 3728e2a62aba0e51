"""How much of the sound of a device a network reproduces, beside a gain and a linear filter."""

from pathlib import Path

import numpy as np

from undertow.app import metrics
from undertow.app.data.sounds.pair import read_pair
from undertow.app.data.tasks.sound import WARM_UP, linear
from undertow.app.evaluation.result import Result
from undertow.app.reading.sounds import player
from undertow.app.runs.folder import Run


def evaluate(run: Run, path: Path, held_back: bool) -> Result:
    """Evaluate a network on two recordings, those that ``run.data`` names.

    Args:
        run: A run whose task is sound.
        path: The input.
        held_back: Whether to score only the part that was held back in the training.

    Returns:
        The metrics of the network, of the input at the best level, and of the best linear filter. Both of
        these are fitted to what is scored.

    Raises:
        UserError: The recordings do not fit each other or the run.
    """
    pair = read_pair(run.data)
    stream = player(run, pair.rate, path)
    start = pair.held_back(run.data.validation) if held_back else 0
    warm = max(0, start - WARM_UP)
    predicted = stream.process(pair.x[warm:, None, None])[start - warm :, 0, 0]
    x, y = pair.x[start:], pair.y[start:]
    result = Result("sound", str(path), said=list(pair.said), what="sample")
    for by, each in ((run.model.cell.upper(), predicted), *linear(x, y).items()):
        result.rows.append(_row(by, y, each, run.data.emphasis))
    mine = result.rows[0]["esr"]
    for row in result.rows[1:]:
        row["skill"] = 1 - mine / row["esr"] if row["esr"] else np.nan
    return result


def _row(by: str, y: metrics.Floats, predicted: metrics.Floats, a: float) -> dict[str, object]:
    error = float(np.mean(np.abs(predicted - y)))
    return {
        "part": "all",
        "name": "",
        "by": by,
        "n": len(y),
        "esr": (ratio := metrics.esr(y, predicted)),
        "esr_db": metrics.decibels(ratio),
        "esr_emphasised": metrics.esr(*(metrics.emphasised(each, a) for each in (y, predicted))),
        "mae_db": 2 * metrics.decibels(error),
    }
