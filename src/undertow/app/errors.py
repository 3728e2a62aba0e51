"""The one exception that a user is meant to read."""

from pathlib import Path


class UserError(Exception):
    """Something the user can put right: shown as one line on stderr, exit code 2, no traceback."""


def must_be_unicode(path: Path) -> None:
    """Refuse a file name that is not Unicode, since config.json could not hold it.

    Args:
        path: The file.

    Raises:
        UserError: The name is in another encoding.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!r}: expected a name in Unicode; rename the file") from None


def one_of(words: list[str], limit: int = 12) -> str:
    """Join words for an error message, and cut a long list short: ``a, b, c, ... (20 in all)``.

    Args:
        words: What there is to choose from.
        limit: The most words shown.

    Returns:
        The words, separated by commas.
    """
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown}, ... ({len(words)} in all)"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of Python, NumPy or torch means that there is not enough memory.

    Args:
        error: Any exception.

    Returns:
        True for MemoryError and for RuntimeErrors with the words of torch's allocators.
    """
    words = ("can't allocate memory", "out of memory", "size calculation overflowed", "bad_alloc")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
