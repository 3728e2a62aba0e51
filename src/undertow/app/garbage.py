"""Python's garbage collector while a command starts."""

import gc
from typing import Any

IMPORTED = 300_000  # objects; those of `import torch` are 265,000


def wait_for_imports() -> None:
    """Search for garbage from now on only after ``IMPORTED`` new objects, then as usual.

    What imports make stays. Searching among it would take a tenth of their time.
    """
    usual = gc.get_threshold()

    def imported(phase: str, info: dict[str, Any]) -> None:
        gc.callbacks.remove(imported)
        gc.freeze()
        gc.set_threshold(*usual)

    gc.callbacks.append(imported)
    gc.set_threshold(IMPORTED, *usual[1:])
