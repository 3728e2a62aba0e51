"""How many examples hypothesis draws: a fixed set in ``make test``, many random ones in ``make fuzz``.

``UNDERTOW_FUZZ=20`` multiplies every count by 20 and draws at random. Without it each machine tries the same
examples, so that a clean clone passes wherever CI passes.
"""

import os
import random

FACTOR = int(os.environ.get("UNDERTOW_FUZZ", "0"))


def examples(count: int) -> int:
    """``count``, or under ``make fuzz`` so many times more."""
    return count * max(FACTOR, 1)


def seed(part: int) -> int:
    """Of the cases of a part of a test: ``part``, or under ``make fuzz`` another at each run."""
    return random.SystemRandom().randrange(10**9) if FACTOR else part
