"""Numbers as people write them: with a decimal comma or point, and with or without a sign for thousands.

What a comma stands for is decided over a whole column; where a column leaves it open the table decides.
"""

import numpy as np
import polars as pl

from undertow.app.data.reading import ColumnReading
from undertow.app.data.values import affixes

SPACES = "[ \u00a0\u202f'\u2019]"
ALWAYS_MISSING = ["", "NA", "N/A", "NaN", "nan", "null"]
MISSING_AMONG_NUMBERS = [
    "-", "--", "---", "—", "–", "None", "none", "NULL", "#N/A", "n/a", "<NA>", "NaT", "NAN", "na", "?", ".",
    "..", ":", "*", "n.a.", "N.A.", "nd", "ND", "missing", "Missing",
]  # fmt: skip
EXPONENT = r"([eE][+-]?\d+)?"
INFINITE = r"|[+-]?(?i:inf|infinity)"
PLAIN = rf"^([+-]?(\d+\.?\d*|\.\d+){EXPONENT}{INFINITE})$"
COMMA = rf"^[+-]?(\d+,?\d*|,\d+){EXPONENT}$"
ZEROS = r"^0\d+$"  # an identifier: as a number it would lose its zeros
GROUPED = {  # with signs for thousands; at most one of the other kind, for decimals
    ",": r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$",
    ".": r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$",
    " ": rf"^[+-]?\d{{1,3}}({SPACES}\d{{3}})+([.,]\d*)?$",
}
MOSTLY = 0.5  # of the texts must be numbers for the column to be one of numbers


def share(values: pl.Series, pattern: str) -> float:
    """Return the share of the texts in which the pattern occurs, 0 to 1."""
    return float(np.mean(values.str.contains(pattern).to_numpy())) if len(values) else 0.0


def settled(values: pl.Series) -> tuple[str, str] | None:
    """Decimal sign and sign for thousands of a column; None where its texts fit two readings."""
    comma, point = share(values, ","), share(values, r"\.")
    if share(values, rf"\d{SPACES}\d{{3}}") and share(values, GROUPED[" "]) + share(values, PLAIN) > MOSTLY:
        return ("," if comma > point else "."), " "
    if not comma:
        return (".", "") if not share(values, r"^[+-]?\d{1,3}(\.\d{3}){2,}$") else (",", ".")
    if share(values, r",.*\.") or share(values, r",\d{3},"):
        return ".", ","
    if share(values, r"\..*,"):
        return ",", "."
    if share(values, r"^[+-]?(\d+,\d{1,2}|\d+,\d{4,}|\d{4,},\d+|0\d*,\d+|,\d+)$"):
        return ",", ""
    short, long = share(values, r"^[+-]?\d{1,3}$"), share(values, r"^[+-]?\d{4,}$")
    return (".", ",") if short and not long else None  # 950 beside 1,020


def in_doubt(values: pl.Series, decimal: str) -> bool:
    """Whether points may stand for thousands, since commas are this table's decimals: 1.234 beside 2,5."""
    small = r"^[+-]?\d{1,3}(\.\d{3})?$"
    if decimal != "," or not values.head(100).str.contains(small).all():
        return False
    if share(values, r"^[+-]?0\.\d"):  # no thousands begin with 0
        return False
    return share(values, r"^[+-]?\d{1,3}\.\d{3}$") > 0 and share(values, small) == 1.0


def parse(values: pl.Series, how: ColumnReading) -> pl.Series:
    """Texts as float64, null where they are no numbers."""
    values, factor = affixes.stripped(values, how)
    if how.thousands:
        signs = SPACES if how.thousands == " " else "\\" + how.thousands
        grouped = values.str.contains(GROUPED[how.thousands])
        without = values.str.replace_all(signs, "")
        values = pl.select(pl.when(grouped).then(without).otherwise(values)).to_series().alias(values.name)
    if how.decimal == ",":
        point = values.str.contains(r"\.")  # a point is no decimal here
        swapped = values.str.replace(",", ".", literal=True)
        values = pl.select(pl.when(~point).then(swapped)).to_series().alias(values.name)
    parsed: pl.Series = values.cast(pl.Float64, strict=False)
    return parsed if factor is None else parsed * factor
