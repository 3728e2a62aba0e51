"""How a table was read: kept in config.json, so that further files are read the same way."""

import msgspec

ROW = "undertow: row"  # number of a row in the file, from 1, the heading not counted; for error messages
SIGNS = {"\t": "tab", " ": "blank"}  # as a person calls them


class ColumnReading(msgspec.Struct, omit_defaults=True):
    """How the texts of one column were read."""

    kind: str = "text"  # text, number or time
    decimal: str = "."
    thousands: str = ""
    missing: list[str] = []  # texts that stand for no value, beside those that always do
    format: str = ""  # of times
    since: int = 0  # first of the hundred years that years of two digits stand for; 0: as POSIX has it
    sign: str = ""  # of percent or a currency, as it is written
    scaled: bool = False  # with K, M or bn
    brackets: bool = False  # around negative numbers


class Reading(msgspec.Struct, omit_defaults=True):
    """What was inferred, and ``said``: that part of it which a plain file would not need."""

    format: str = "csv"
    encoding: str = ""
    separator: str = ","
    header: bool = True
    comment: str = ""
    sheet: str = ""
    time_parts: list[str] = []  # columns that make the time together
    columns: dict[str, ColumnReading] = {}
    said: list[str] = []

    def describe(self) -> list[str]:
        """A line for people, or none."""
        return [f"read with {'; '.join(self.said)}"] if self.said else []


def sign(separator: str) -> str:
    """Return the name of a separator, for people."""
    return SIGNS.get(separator, f"'{separator}'")
