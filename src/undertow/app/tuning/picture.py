"""The picture of a study: how much each option mattered, and the errors by its values."""

from pathlib import Path
from typing import Any

import optuna
from matplotlib.axes import Axes
from optuna.trial import FrozenTrial, TrialState

from undertow.app.outputs import atomically
from undertow.app.tuning.space import Domain
from undertow.app.tuning.study import of_state
from undertow.palette import BLUE, GREY, INK
from undertow.plots import style

SHOWN = 4  # options whose values are drawn: those that mattered most
FEWEST = 4  # complete trials from which importances are computed
NAME = "importance.png"


def importances(study: optuna.Study) -> dict[str, float]:
    """Compute how much each option mattered.

    Args:
        study: The study.

    Returns:
        The share of each option in what tells the best tenth of the trials from all of them (PED-ANOVA,
        Watanabe et al. 2023), the largest first; none before FEWEST trials are complete.
    """
    complete = of_state(study, TrialState.COMPLETE)
    varied = [name for name in (complete[0].params if complete else ()) if _differs(complete, name)]
    if len(complete) < FEWEST or not varied:
        return {}
    return dict(optuna.importance.get_param_importances(study, params=varied))


def _differs(trials: list[FrozenTrial], name: str) -> bool:
    return len({trial.params.get(name) for trial in trials}) > 1


def draw(study: optuna.Study, space: list[Domain], found: dict[str, float], folder: Path) -> Path:
    """Draw the importances and, for each option, the errors of the trials by its values.

    Args:
        study: The study.
        space: The options that vary.
        found: What ``importances`` returned, not empty.
        folder: The folder of the study, which gets the picture.

    Returns:
        The file.
    """
    domains = {domain.name: domain for domain in space}
    shown = list(found)[:SHOWN]
    height = 1.2 + 0.22 * len(found) + 1.5 * len(shown)
    figure, axes = style.panels(len(shown) + 1, 1, (2 * style.COLUMN, height))
    _bars(axes[0, 0], found)
    for ax, name in zip(axes[1:, 0], shown, strict=True):
        _by_value(ax, of_state(study, TrialState.COMPLETE), domains[name])
    atomically(folder / NAME, lambda path: figure.savefig(path, format="png"))
    return folder / NAME


def _bars(ax: Axes, found: dict[str, float]) -> None:
    names = list(found)
    ax.barh(range(len(names)), [found[name] for name in names], color=BLUE, height=0.6)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    for k, name in enumerate(names):
        ax.annotate(
            f" {100 * found[name]:.0f}%", (found[name], k), va="center", fontsize=style.POINTS, color=INK
        )
    ax.set_xlabel("share in what tells the best trials from all")
    ax.margins(x=0.1)
    style.title(ax, "How much each option mattered")


def _by_value(ax: Axes, trials: list[FrozenTrial], domain: Domain) -> None:
    """The cost of each trial by the value of one option; the best one is ringed."""
    values: list[Any] = [trial.params[domain.name] for trial in trials]
    costs: list[Any] = [trial.value for trial in trials]
    best = costs.index(min(costs))
    if domain.choices:
        places = [domain.choices.index(value) for value in values]
        ax.set_xticks(range(len(domain.choices)), [str(choice) for choice in domain.choices])
    else:
        places = values
        ax.set_xscale("log" if domain.logarithmic else "linear")
    ax.plot(places, costs, "o", color=GREY, ms=4, alpha=0.6, mew=0)
    ax.plot(places[best], costs[best], "o", color=BLUE, ms=7, mfc="white", mew=1.6)
    ax.margins(x=0.04, y=0.12)
    ax.set(xlabel=domain.name, ylabel="error")
