"""Types with ranges, and groups of tasks, of which the configurations are made."""

from typing import Annotated

from msgspec import Meta

FORECAST, TEXT, SOUND = ("forecast",), ("text",), ("sound",)
LABELLED = ("classify", "regress")  # whose labels decide which; so their defaults are the same
TABLES = ("forecast", *LABELLED)

Count = Annotated[int, Meta(ge=1, le=1_000_000)]  # of units, layers, sequences, passes
Rate = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Column = str | None
Several = tuple[str, ...]
Place = Annotated[int, Meta(ge=0, le=1_000_000)]  # of a feature
