"""What stands around numbers: signs of percent and currencies, K, M and bn, brackets as a minus."""

import re

import polars as pl

from undertow.app.data.reading import ColumnReading

SIGNS = ("%", "€", "$", "£", "¥", "EUR", "USD", "GBP", "CHF", "JPY")
SCALES = {"K": 1e3, "k": 1e3, "M": 1e6, "mn": 1e6, "Mio": 1e6, "B": 1e9, "bn": 1e9, "Mrd": 1e9}
_SIGN, _SCALE = ("|".join(map(re.escape, each)) for each in (SIGNS, SCALES))
PATTERN = (  # of a number in such clothes; which ones a column may have is checked afterwards
    rf"^(?P<open>\()?\s*(?P<minus>[+-]?)\s*(?P<before>{_SIGN})?\s*(?P<late>[+-]?)"
    rf"(?P<digits>(?:\d|[.,]\d)[\d.,'\u2019\u00a0\u202f ]*?(?:[eE][+-]?\d+)?)"
    rf"\s*(?:(?P<scale>{_SCALE})\.?)?\s*(?P<after>{_SIGN})?\s*(?P<close>\))?$"
)
HINT = rf"{_SIGN}|^\(|\d\s*(?:{_SCALE})\.?$"
MOSTLY = 0.5  # of the texts must be such numbers


def find(values: pl.Series) -> ColumnReading | None:
    """What stands around the numbers of a column; None where nothing does, or it is no column of numbers.

    ``sign`` is ``?`` where some numbers have a sign that others do not have, and that changes what they mean.
    """
    there = values.drop_nulls()
    if not there.str.contains(HINT).any():
        return None
    parts = groups(there).filter(pl.col("digits").is_not_null())
    if len(parts) <= MOSTLY * len(there):
        return None
    plain = int((parts["sign"].eq("") & ~parts["digits"].str.contains(r"^[0.,]+$")).sum())  # 0 is 0 %
    written = [sign for sign in parts["sign"].unique() if sign]
    scaled, brackets = bool((parts["scale"] != "").any()), bool(parts["open"].eq("(").any())
    if not written and not scaled and not brackets:
        return None
    mixed = len(written) > 1 or (written == ["%"] and plain > 0)
    sign = "?" if mixed else "".join(written)
    return ColumnReading("number", sign=sign, scaled=scaled, brackets=brackets)


def groups(values: pl.Series) -> pl.DataFrame:
    """The parts of each text, [rows]: open, sign, digits with their minus (null for no number), scale."""
    found: pl.DataFrame = values.str.extract_groups(PATTERN).struct.unnest()
    names = [name for name in found.columns if name != "digits"]
    parts = found.with_columns(pl.col(names).fill_null("")).with_columns(
        sign=pl.col("before") + pl.col("after"), minus=pl.col("minus") + pl.col("late")
    )
    paired = (
        (pl.col("open").eq("(") == pl.col("close").eq(")"))
        & ((pl.col("before") == "") | (pl.col("after") == ""))
        & (pl.col("minus").str.len_chars() <= 1)
        & ((pl.col("open") == "") | (pl.col("minus") == ""))
    )
    minus = pl.when(pl.col("open") == "(").then(pl.lit("-")).otherwise("minus")
    digits = pl.when(paired).then(pl.concat_str(minus, pl.col("digits").str.strip_chars()))
    return parts.with_columns(digits=digits).select("open", "sign", "digits", "scale")


def stripped(values: pl.Series, how: ColumnReading) -> tuple[pl.Series, pl.Series | None]:
    """The bare numbers, still texts, and the factor of each; what has other clothes than ``how`` stays."""
    if not (how.sign or how.scaled or how.brackets):
        return values, None
    parts = groups(values)
    zero = pl.col("digits").str.contains(r"^[0.,]+$")
    optional = pl.lit(how.sign != "%") | zero
    fits = (
        (pl.col("sign").eq(how.sign) | (pl.col("sign").eq("") & optional))
        & (pl.col("scale").eq("") | how.scaled)
        & (pl.col("open").eq("") | how.brackets)
    )
    bare = pl.when(fits & pl.col("digits").is_not_null()).then("digits").otherwise(pl.lit(values))
    factor = pl.col("scale").replace_strict(SCALES, default=1.0, return_dtype=pl.Float64)
    table = parts.select(bare.alias(values.name), factor.alias("factor"))
    return table[values.name], table["factor"] if how.scaled else None


def words(name: str, how: ColumnReading) -> list[str]:
    """How this is said to people."""
    sign = f"{name} in percent, as written" if how.sign == "%" else f"{name} written with {how.sign}"
    said = {
        sign: bool(how.sign),
        f"K, M or bn in {name} as thousands, millions, billions": how.scaled,
        f"brackets in {name} as minus": how.brackets,
    }
    return [each for each, holds in said.items() if holds]
