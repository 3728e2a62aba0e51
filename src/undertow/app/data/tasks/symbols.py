"""What the numbers of the built-in problems stand for, for people: inputs and answers."""

from itertools import product

NUMBERED = [f"a{k}" for k in range(1, 101)]  # letters of the long lags
SYMBOLS = {  # of the built-in problems that read one symbol a step: what their inputs stand for
    "temporal-order": [*"EBabcdXY"],
    "temporal-order-3": [*"EBabcdXY"],
    "reber": [*"BTPSXVE"],
    "continual-reber": [*"BTPSXVE"],
    "copy-memory": [*"abcdefgh·!"],  # a blank and the sign to begin
    "lag-noise-free": [*NUMBERED[:99], "x", "y"],
    "lag-random": [*NUMBERED[:99], "x", "y"],
    "lag-distractors": [*NUMBERED, "e", "b", "x", "y"],
}
CLASSES = {  # what their answers stand for, where these are no symbols that are read
    "temporal-order": list(map("".join, product("XY", repeat=2))),
    "temporal-order-3": list(map("".join, product("XY", repeat=3))),
    "lag-distractors": ["x", "y"],
}
SIGNALS = ["value", "marker"]  # what the others read: both, or the value alone
