"""How each of the literature's problems is trained: one table, chosen by measurement."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from undertow import problems
from undertow.app.errors import UserError
from undertow.problems import Problem

STRETCH = 0.1  # HS97 draw lengths from T to 1.1 T
RNN_PATIENCE = 4  # a plain RNN gets this many times the sequences that the slowest LSTM needed
QUICK_SEEDS, FULL_SEEDS = 1, 3


@dataclass(frozen=True)
class Setting:
    """One row: a problem at a lag, the network, and its training with Adam."""

    problem: str
    steps: int  # the lag T as the problem means it
    hidden_size: int  # H
    batch_size: int  # N
    lr: float  # full for half of ``most``, then falling in a line to a twentieth
    most: int  # sequences; training that has not met the criterion by then has failed
    start: str = "torch"  # of the LSTM: torch, forget_bias=B, or chrono with max_lag = ``reach`` times T
    reach: float = 1.0
    head: float = 1.0  # the head's learning rate over that of the layers
    rnn_lr: float = 1e-3
    every: int = 50  # batches between looks at the criterion
    clip: float = 1.0  # largest L2 norm of all gradients together
    stretch: float = STRETCH
    look_steps: int = 0  # T of the streams by which the criterion judges; 0: as in training
    seeds: int = FULL_SEEDS

    @property
    def row(self) -> str:
        """The name of the row, such as ``adding-1997 T=500``."""
        return f"{self.problem} T={self.steps}"

    @property
    def posed(self) -> Problem:
        """The problem, from undertow.problems."""
        return problems.get(self.problem)

    def start_options(self) -> dict[str, Any]:
        """Return ``start`` as options of undertow.LSTM."""
        if self.start == "chrono":
            return {"init": "chrono", "max_lag": round(self.reach * self.steps)}
        return {} if self.start == "torch" else {"forget_bias": float(self.start.partition("=")[2])}

    def start_in_words(self) -> str:
        """Return ``start`` as the table shows it."""
        if self.start == "chrono":
            return f"chrono, max_lag={self.reach * self.steps:g}"
        return self.start

    def fixed(self) -> dict[str, Any]:
        """Return all that a result depends on, which the number of seeds is not."""
        return asdict(replace(self, seeds=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the setting as JSON holds it."""
        return asdict(self)


#                problem               T     H    N    lr     most
FULL = (
    Setting("reber",                 100,   16,  16, 1e-2,    60_000, rnn_lr=5e-3, every=20, stretch=0.0),
    Setting("lag-noise-free",        100,   32,  16, 1e-3,    60_000, "chrono", head=50, stretch=0.0),
    Setting("lag-random",            100,   64,  32, 5e-3,   200_000, "chrono", reach=2, head=2, stretch=0.0),
    Setting("lag-distractors",       100,   16,  32, 1e-2,    50_000, "chrono", every=20, stretch=0.0),
    Setting("lag-distractors",      1000,   16,  32, 1e-2,    50_000, "chrono", every=20, stretch=0.0),
    Setting("two-sequence",          100,   16,  32, 1e-2,    50_000, "chrono", every=20),
    Setting("two-sequence-noisy",    100,   16,  32, 1e-2,    50_000, "chrono", every=20),
    Setting("expected-target",       100,   16,  64, 1e-2,   100_000, "chrono", every=20),
    Setting("adding-1997",           100,   32,  32, 1e-2,   300_000, "chrono"),
    Setting("adding-1997",           500,   32,  32, 1e-2,   300_000, "chrono"),
    Setting("adding-1997",          1000,   32,  32, 1e-2,   400_000, "chrono"),
    Setting("multiplication",        100,   32,  32, 1e-2,   150_000, "chrono"),
    Setting("temporal-order",        100,   32,  32, 1e-2,   100_000, "chrono", every=20),
    Setting("temporal-order-3",      100,   32,  32, 1e-2,   200_000, "chrono"),
    Setting("continual-reber",       100,   16,  16, 1e-2,    60_000, rnn_lr=5e-3, stretch=0.0,
            look_steps=100_000),
    Setting("copy-memory",           100,   64,  32, 1e-2,   600_000, "chrono", reach=10, head=3,
            stretch=0.0),
)  # fmt: skip

# lags that take long at the papers' length
SHORTER = {
    "lag-random T=100": 50,
    "lag-distractors T=1000": None,
    "adding-1997 T=500": 200,
    "adding-1997 T=1000": None,
    "copy-memory T=100": 30,
}


def chosen(names: list[str], quick: bool, seeds: int | None) -> list[Setting]:
    """Choose the rows to train.

    Args:
        names: Problems; empty: all of them.
        quick: Whether to shorten lags that take long, or leave them out.
        seeds: Networks of each kind. None: 3, or 1 if ``quick``.

    Returns:
        The settings.

    Raises:
        UserError: A name is not that of a problem.
    """
    known = list(dict.fromkeys(setting.problem for setting in FULL))
    for name in names:
        if name not in known:
            raise UserError(f"{name}: no problem of the classics; problems: {', '.join(known)}")
    found = []
    for setting in FULL:
        steps = SHORTER.get(setting.row, setting.steps) if quick else setting.steps
        if steps is not None and (not names or setting.problem in names):
            usual = QUICK_SEEDS if quick else setting.seeds
            found.append(replace(setting, steps=steps, seeds=seeds or usual))
    return found
