"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can put right: shown as one line on stderr, exit code 2, no traceback."""


def one_of(words: list[str], limit: int = 12) -> str:
    """A list for an error message, cut short: ``a, b, c, ... (20 in all)``."""
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown}, ... ({len(words)} in all)"
