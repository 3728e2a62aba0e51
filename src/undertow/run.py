"""Run another program, unchanged, with undertow's modules in the place of torch's LSTMs and RNNs.

``python -m undertow.run script.py arguments`` stands for ``python script.py arguments``, and
``python -m undertow.run -m module arguments`` for ``python -m module arguments``.
It prints nothing of its own.
"""

import runpy
import sys
from pathlib import Path

import undertow

USAGE = (
    "usage: python -m undertow.run script.py [arguments]\n       python -m undertow.run -m module [arguments]"
)


def main(words: list[str]) -> None:
    """Run a program as ``__main__`` under ``undertow.patch``.

    Args:
        words: the script and its arguments, or "-m", a module and its arguments.

    Raises:
        SystemExit: ``words`` name no program; the message is the usage.
    """
    program = words[1:] if words[:1] == ["-m"] else words
    if not program or program[0].startswith("-"):
        raise SystemExit(USAGE)
    sys.argv = program
    with undertow.patch():
        if program is words:
            sys.path[0] = str(Path(program[0]).resolve().parent)
            runpy.run_path(program[0], run_name="__main__")
        else:
            runpy.run_module(program[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
