"""The one exception that a user is meant to read."""

import re
from collections.abc import Collection
from pathlib import Path


class UserError(Exception):
    """Something the user can put right: shown as one line on stderr, exit code 2, no traceback.

    Args:
        message: What is wrong.
        *remedies: What options of ``undertow train`` do about it: ``--gaps fill repeats the value before``.
    """

    def __init__(self, message: str, *remedies: str) -> None:
        super().__init__(message, *remedies)
        self.message, self.remedies = message, remedies

    def __str__(self) -> str:
        return f"{self.message}; {', '.join(self.remedies)}" if self.remedies else self.message

    def where(self, flags: Collection[str]) -> "UserError":
        """Word the error for a verb that has some of the options only.

        Args:
            flags: The verb's options, such as ``--gaps``.

        Returns:
            The error with the remedies that the verb takes; without any, it names those of a training.
        """
        taken = [each for each in self.remedies if set(re.findall(r"--[a-z][a-z-]*", each)) <= set(flags)]
        if taken or not self.remedies:
            return UserError(self.message, *taken)
        return UserError(
            f"{self.message}; correct the file, or train with an option: {', '.join(self.remedies)}"
        )


class Finished(UserError):
    """A training is finished, and there is nothing to resume."""


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
