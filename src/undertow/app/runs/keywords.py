"""The options of ``undertow train`` as keyword arguments."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from undertow.app.errors import UserError
from undertow.app.runs.config import options

LAUNCHING = ("devices", "timeout")  # options that start processes, of a command


def as_given(keywords: dict[str, Any]) -> dict[str, Any]:
    """Read keyword arguments as the command line gives them.

    Args:
        keywords: Values by option. An option that may be given several times has a value or several; a flag
            that is off has False.

    Returns:
        Those that are given: a list for an option that may be given several times, and NumPy's scalars as
        numbers of Python.

    Raises:
        UserError: There is no such option, or a value is an empty text.
    """
    declared, found = {option.name: option for option in options()}, {}
    for name, value in keywords.items():
        if name in LAUNCHING:
            raise UserError(
                f"{name}: an option of the command line alone; torchrun --nproc-per-node N SCRIPT starts a "
                "script in N processes, which train together"
            )
        if name not in declared:
            near = get_close_matches(name, declared, 1)
            raise UserError(f"{name}: no such option" + (f"; did you mean {near[0]}?" if near else ""))
        option = declared[name]
        if value is None or (value is False and not isinstance(option.option.default, Mapping)):
            continue
        if option.repeats:
            value = [value] if isinstance(value, str) else list(value)
        texts = [each for each in (value if option.repeats else [value]) if isinstance(each, str)]
        if "" in texts and name != "missing":
            raise UserError(f"{option.flag}: expected a value, got an empty one")
        found[name] = value.item() if hasattr(value, "item") else value
    return found
