"""Forms of times as strptime writes them: what their codes stand for, and the usual forms.

Beside the codes of strptime there are %q for quarters and [...] around what may be absent. %b takes names of
months in full too, in English, German, French or Spanish.
"""

import re
from functools import lru_cache

CODES = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d{2})", "m": r"(?P<m>\d{1,2})", "d": r"(?P<d>\d{1,2})",
    "b": r"(?P<b>[^\W\d_]{3,}\.?)", "H": r"(?P<H>\d{1,2})", "I": r"(?P<I>\d{1,2})", "M": r"(?P<M>\d{1,2})",
    "S": r"(?P<S>\d{1,2})", "f": r"(?P<f>\d{1,9})", "p": r"(?P<p>[AaPp]\.?[Mm]\.?)", "j": r"(?P<j>\d{3})",
    "z": r"(?P<z>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?)", "G": r"(?P<G>\d{4})", "V": r"(?P<V>\d{1,2})",
    "u": r"(?P<u>[1-7])", "q": r"(?P<q>[1-4])", "a": r"[^\W\d_]{2,}\.?", "s": r"(?P<s>-?\d+(?:\.\d+)?)",
    "*": r".*",
}  # fmt: skip
LONGER = {"T": "%H:%M:%S", "F": "%Y-%m-%d", "B": "%b", "A": "%a", "e": "%d", "D": "%m/%d/%y", "R": "%H:%M"}
DATES = [
    *(f"%Y{s}%m{s}%d" for s in "-/. "), "%Y%m%d",
    *(f"{a}{s}{b}{s}{year}" for s in "/.-" for year in ("%Y", "%y") for a, b in (("%d", "%m"), ("%m", "%d"))),
    *(f"%y{s}%m{s}%d" for s in "/.-"),
    *(form.replace("~", s) for s in "- /." for form in ("%d~%b~%Y", "%Y~%b~%d", "%d~%b~%y")), "%d%b%Y",
    "%d. %b %Y", "%b %d, %Y", "%b %d %Y", "%a, %d %b %Y", "%a %b %d %Y", "%a, %b %d, %Y", "%a %d %b %Y",
    "%Y-%m", "%Y/%m", "%Y.%m", "%m/%Y", "%m-%Y", "%m.%Y", "%YM%m", "%Y-M%m", "%Ym%m",
    *(form.replace("~", s) for s in " -/" for form in ("%Y~%b", "%b~%Y")), "%b, %Y", "%b-%y", "%b %y", "%b%Y",
    "%Y Q%q", "%YQ%q", "%Y-Q%q", "%Y/Q%q", "Q%q %Y", "Q%q-%Y", "Q%q/%Y", "%Yq%q", "%Y q%q", "q%q %Y",
    "%G-W%V-%u", "%G-W%V", "%GW%V", "%G W%V", "%G-w%V", "%Gw%V", "%Y-%j",
]  # fmt: skip
CLOCKS = [
    *(f"{s}{clock}" for s in (" ", "T", "  ", ", ") for clock in (
        "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f", "%I:%M %p", "%I:%M%p", "%I:%M:%S %p", "%I %p",
        "%H", "%H.%M", "%H.%M.%S", "%H:%M - %*", "%H%M", "%H%M%S", "%Hh", "%H:%M[:%S[.%f]]",
    )), "[ %H:%M[:%S[.%f]]]",
]  # fmt: skip
COMPACT = ["%H", "%H%M", "%H%M%S", "-%H%M%S", "-%H:%M", "-%H:%M:%S", "_%H%M%S"]  # after %Y%m%d alone
ZONES = ["", "%z", " %z"]


def pattern(form: str) -> str:
    """The regular expression of a form, a named group for each code; raises ValueError for an unknown one."""
    for code, longer in LONGER.items():
        form = form.replace(f"%{code}", longer)
    parts = re.findall(r"%.|.", form)
    found = []
    for k, part in enumerate(parts):
        if part in "[]":
            found.append("(?:" if part == "[" else ")?")
        elif part[0] != "%":
            found.append(re.escape(part))
        elif part[1:] not in CODES:
            raise ValueError(f"%{part[1:]}")
        else:
            beside = [parts[j] for j in (k - 1, k + 1) if 0 <= j < len(parts)]
            fixed = part[1] in "mdHMSIV" and any(
                each[0] == "%" and each[1:] in [*"YymdHMSIG"] for each in beside
            )
            found.append(CODES[part[1]].replace(r"\d{1,2}", r"\d{2}") if fixed else CODES[part[1]])
    return f"^{''.join(found)}$"


@lru_cache(maxsize=512)
def prefix(date: str) -> re.Pattern[str]:
    """Return a pattern of texts that begin with a date of this form."""
    return re.compile(pattern(date)[:-1])


@lru_cache(maxsize=512)
def ending(form: str) -> re.Pattern[str]:
    """Return a pattern of texts that have this form to their end."""
    return re.compile(pattern(form))
