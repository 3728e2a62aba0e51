"""Figures for papers, of traced layers and of what ``undertow.flow`` computes from them. No torch.

Each function returns (figure, axes). Functions of one panel draw into ``ax`` if it is given; ``panels`` makes
several Axes at once. Figures are as wide as a column of a paper, legible at that size, in Okabe & Ito's
colours, which colour-blind readers tell apart. Nothing goes through pyplot: no figure stays open and no
setting is changed. ``figure.savefig("f.pdf")`` saves a figure; in a notebook, with ``%matplotlib inline``,
``display(figure)`` shows it.

Each picture names which of the three gradients that share a name (docs/gradient-flow.md) it shows.

    >>> with undertow.trace(model) as trace:
    ...     criterion(model(x), target).backward()
    >>> figure, axes = undertow.plots.gate_maps(trace["lstm"].layers[0])

What a layer did: ``gate_maps``, ``gate_lines``, ``saturation``, ``saturation_bars``. Where gradients go:
``gradient_by_lag``, ``three_gradients``, ``four_terms``, ``departure``, ``eigenvalues``, ``lyapunov``. Over
training: ``flow_over_training``. Padding is never drawn. A bad argument raises ValueError or TypeError
naming it.

docs/plots.md is the gallery.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("undertow.plots needs matplotlib: pip install 'undertow[plots]'") from error

from undertow.plots.gates import gate_lines, gate_maps, saturation, saturation_bars
from undertow.plots.lags import departure, gradient_by_lag, three_gradients
from undertow.plots.steps import eigenvalues, four_terms, lyapunov
from undertow.plots.style import panels
from undertow.plots.training import flow_over_training

__all__ = [
    "departure",
    "eigenvalues",
    "flow_over_training",
    "four_terms",
    "gate_lines",
    "gate_maps",
    "gradient_by_lag",
    "lyapunov",
    "panels",
    "saturation",
    "saturation_bars",
    "three_gradients",
]
