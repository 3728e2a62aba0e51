"""What a run's file says of its prediction intervals. No torch is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from undertow.app.errors import UserError
from undertow.app.runs import records
from undertow.app.runs.facts import converted

FILE = "interval.safetensors"


@dataclass(frozen=True)
class About:
    """What the intervals of a run are.

    Args:
        share: The share of the truths that are to lie inside.
        coverage: The share that did, in each half of the validation part with a correction from the other
            half. None: too few truths are known.
        widths: The mean width in the validation part, in the unit of each target.
    """

    share: float
    coverage: float | None
    widths: list[float]

    def describe(self, targets: Sequence[str]) -> str:
        """Say in a line how wide the intervals are and how many truths lie inside.

        Args:
            targets: The names of the targets.

        Returns:
            The line.
        """
        several = len(targets) > 1
        each = [
            f"{width:.4g}{f' ({name})' * several}" for name, width in zip(targets, self.widths, strict=True)
        ]
        words = f"{100 * self.share:g}% intervals: {', '.join(each)} wide on average"
        if self.coverage is None:
            return f"{words}, calibrated on the validation part"
        return (
            f"{words}; {100 * self.coverage:.1f}% of the truths lie inside where one half of the validation "
            f"part calibrates the other"
        )


def about(folder: Path) -> About | None:
    """Read what the intervals of a run are.

    Args:
        folder: The run folder.

    Returns:
        What they are; None if the run has none.

    Raises:
        UserError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            state = records.load((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    found: About = converted(state, About, str(path))
    return found
