"""The one exception that a user is meant to read."""

from pathlib import Path


class UserError(Exception):
    """Something the user can put right: shown as one line on stderr, exit code 2, no traceback."""


def must_be_unicode(path: Path) -> None:
    """Raises UserError where a file's name is in another encoding: config.json could not hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!r}: expected a name in Unicode; rename the file") from None


def one_of(words: list[str], limit: int = 12) -> str:
    """A list for an error message, cut short: ``a, b, c, ... (20 in all)``."""
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown}, ... ({len(words)} in all)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or torch says that there is not enough memory."""
    words = ("can't allocate memory", "out of memory", "size calculation overflowed", "bad_alloc")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
