"""How many rows a forecast reads, where ``--steps`` does not say it."""

from statistics import median

from undertow.app.data.tables.panel import Series
from undertow.app.data.tasks.naive import season_rows

USUAL, MOST = 32, 192


def window_rows(series: Series, horizon: int) -> int:
    """Choose the window from the season of the rows, the horizon and the length of the series.

    Args:
        series: The series.
        horizon: Rows to forecast after each window.

    Returns:
        USUAL rows, and more where a season or the horizon is longer: the window then holds the value of one
        season before. At most MOST rows, and about half of a series of median length: windows are left then.
    """
    wanted = min(MOST, max(USUAL, season_rows(series), horizon))
    lengths = [stop - start for start, stop in series.spans]
    return max(1, min(wanted, (int(median(lengths)) - horizon) // 2))
