"""What the data of a run turned out to hold: how to read further data the same way."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Columns:
    """Which columns are features, in the order in which the model reads them. Kept in config.json."""

    numeric: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)  # one-hot, a place for each word
    calendar: list[str] = field(default_factory=list)  # cycles of the time column: year, week, day
    ignored: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """C, the number of features."""
        return len(self.numeric) + sum(map(len, self.categories.values())) + 2 * len(self.calendar)

    def describe(self) -> str:
        parts = [f"{name} ({len(words)} words)" for name, words in self.categories.items()]
        parts += [f"time of {cycle}" for cycle in self.calendar]
        ignored = f"; not used: {', '.join(self.ignored)}" if self.ignored else ""
        return f"{self.width} features: {', '.join(self.numeric + parts)}{ignored}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
