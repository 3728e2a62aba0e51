"""The figures, in Bokeh, on one axis of time. They are empty until the page's scripts fill them.

Bokeh draws, zooms and reports where the pointer is. The content depends on the layer, the order of units
and the step that the reader chooses, so the scripts provide the arrays. All figures have the same borders,
which aligns their steps.
"""

from typing import Any

import numpy as np
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FixedTicker,
    LinearColorMapper,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure

from undertow.report.networks import Network, Sequence

LEFT, RIGHT = 112, 10  # borders in pixels; the left one holds the names of rows
BELOW = 24  # pixels for the steps below the last figure, and again for the name of the axis
MOST_INPUTS = 16  # rows in the figure of the sequence itself
PANELS = {"lstm": ["c", "h", "f", "i", "o", "g"], "rnn": ["h"]}
FONT = "system-ui, sans-serif"


def figures(networks: list[Network], sequence: Sequence) -> dict[str, Any]:
    """Make the figures of the page, on one axis of steps. Only that of the sequence has content.

    Args:
        networks: the networks in the order of the page.
        sequence: the sequence that they read.

    Returns:
        Figures by name, from the top: ``sequence``, ``error``, ``norm``, and for each network k ``k-flow``,
        ``k-c``, ``k-h`` and its gates.
    """
    T = sequence.T
    time = Range1d(start=-0.5, end=T - 0.5, bounds=(-0.5, T - 0.5), min_interval=min(T, 6), name="time")
    found: dict[str, Any] = {}
    if sequence.symbols is not None:
        found["sequence"] = _symbols(time, sequence)
    elif sequence.inputs is not None:
        found["sequence"] = _inputs(time, sequence)
    if any(network.error is not None for network in networks):
        found["error"] = _lines(time, "error", 76, networks)
    if any(network.layers for network in networks):
        found["norm"] = _lines(time, "norm", 150, networks, log=True)
    for k, network in enumerate(networks):
        H = network.layers[-1].values["h"].shape[1]
        units = Range1d(start=-0.5, end=H - 0.5, name=f"{k}-units")
        found[f"{k}-flow"] = _heat_map(time, units, f"{k}-flow", 110)
        for name in PANELS[network.layers[0].cell]:
            found[f"{k}-{name}"] = _heat_map(time, units, f"{k}-{name}", 96 if name in "ch" else 72)
    _with_steps_below(list(found.values())[-1], sequence)
    for name, plot in found.items():
        _report_pointer(name, plot)
    return found


def _plot(time: Range1d, name: str, height: int, zoom: Any = "width", **options: Any) -> Any:
    """Make a bare figure on the common axis. Dragging zooms, and so does the wheel with Ctrl."""
    plot = figure(
        name=name, x_range=time, height=height, sizing_mode="stretch_width", toolbar_location=None,
        min_border_left=LEFT, min_border_right=RIGHT, min_border_top=2, min_border_bottom=2,
        tools=[BoxZoomTool(dimensions=zoom), WheelZoomTool(dimensions="width", modifiers="ctrl")],
        background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None, **options,
    )  # fmt: skip
    plot.xaxis.visible = False
    plot.grid.visible = False
    for axis in plot.axis:
        axis.update(
            axis_line_color=None, major_tick_line_color=None, minor_tick_line_color=None,
            major_label_text_font=FONT, major_label_text_font_size="11px", axis_label_text_font=FONT,
        )  # fmt: skip
    return plot


def _heat_map(time: Range1d, units: Range1d, name: str, height: int) -> Any:
    plot = _plot(time, name, height, zoom="auto", y_range=units)
    plot.yaxis.ticker = FixedTicker(ticks=[])
    empty = np.zeros((1, 1), np.float32)
    source = ColumnDataSource(
        {"image": [empty], "x": [-0.5], "y": [-0.5], "dw": [1], "dh": [1]}, name=f"{name}-source"
    )
    mapper = LinearColorMapper(
        palette=["#888888"], low=0, high=1, nan_color="#00000000", name=f"{name}-mapper"
    )
    plot.image(
        image="image",
        x="x",
        y="y",
        dw="dw",
        dh="dh",
        source=source,
        color_mapper=mapper,
        name=f"{name}-image",
    )
    return plot


def _lines(time: Range1d, name: str, height: int, networks: list[Network], log: bool = False) -> Any:
    """Make a figure with a line for each network, and a dot at each step without neighbours."""
    options = (
        {"y_axis_type": "log", "y_range": Range1d(start=1e-6, end=2)}
        if log
        else {"y_range": Range1d(start=0, end=1)}
    )
    plot = _plot(time, name, height, **options)
    plot.ygrid.visible = True
    plot.yaxis.ticker.desired_num_ticks = 4
    for k in range(len(networks)):
        for which, dash in (("", "solid"), ("-carousel", [2, 3])):
            if which and not log:
                continue
            source = ColumnDataSource({"x": [], "y": [], "dot": []}, name=f"{k}-{name}{which}-source")
            plot.line(
                "x", "y", source=source, line_width=2 if not which else 1.2, line_dash=dash,
                name=f"{k}-{name}{which}-line",
            )  # fmt: skip
            plot.scatter("x", "y", size="dot", source=source, line_color=None, name=f"{k}-{name}{which}-dots")
    return plot


def _symbols(time: Range1d, sequence: Sequence) -> Any:
    """Make the figure of symbols; a second row has the targets, if there are any, coloured by E_t."""
    rows = row_names(sequence)
    plot = _plot(time, "sequence", 26 * len(rows) + 4, y_range=Range1d(start=len(rows) - 0.5, end=-0.5))
    plot.yaxis.visible = False
    t = np.arange(sequence.T)
    for row, symbols in enumerate([sequence.symbols, sequence.targets][: len(rows)]):
        source = ColumnDataSource(
            {"x": t, "y": np.full(sequence.T, row), "text": [visible(s) for s in symbols or []],
             "color": ["#00000000"] * sequence.T},
            name=f"symbols-{row}-source",
        )  # fmt: skip
        plot.rect("x", "y", 1, 0.92, source=source, fill_color="color", line_color=None)
        plot.text(
            "x", "y", "text", source=source, text_align="center", text_baseline="middle",
            text_font={"value": "monospace"}, text_font_size="12px", name=f"symbols-{row}-text",
        )  # fmt: skip
    return plot


def _inputs(time: Range1d, sequence: Sequence) -> Any:
    """Make the figure of the series, a row for each, from its lowest to its highest value."""
    assert sequence.inputs is not None
    names = row_names(sequence)
    height = max(20, 40 if len(names) < 4 else 0)
    plot = _plot(time, "sequence", height * len(names) + 4, y_range=Range1d(start=len(names) - 0.5, end=-0.5))
    plot.yaxis.visible = False
    t = np.arange(-1, sequence.T + 1)  # one more step at both ends, out of view, so that each line is 1 wide
    for row, x in enumerate(np.asarray(sequence.inputs, np.float64).T[:MOST_INPUTS]):
        level = np.pad((x - x.min()) / (np.ptp(x) or 1.0), 1, mode="edge")
        plot.step(t, row + 0.4 - 0.8 * level, mode="center", line_width=1.3, name=f"input-{row}")
    return plot


def row_names(sequence: Sequence) -> list[str]:
    """Name the rows of the figure of the sequence. The page writes the names, cut to the border.

    Args:
        sequence: the sequence that was read.

    Returns:
        Names from the top; at most ``MOST_INPUTS`` names of inputs.
    """
    if sequence.symbols is None:
        return sequence.input_names[:MOST_INPUTS]
    if sequence.targets is None:
        return ["reads"]
    return ["reads", "next" if sequence.predicts_next else "wanted"]


def visible(symbol: str) -> str:
    """Return a visible character for white space, and any other symbol as it is."""
    return {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}.get(symbol, symbol)


def _with_steps_below(plot: Any, sequence: Sequence) -> None:
    """Write the names or numbers of steps below the last figure; controls.js places as many as fit."""
    plot.xaxis.visible = True
    numbered = sequence.steps == [str(t) for t in range(sequence.T)]
    below = 2 * BELOW if numbered else BELOW
    plot.height += below
    plot.min_border_bottom = below
    plot.xaxis.ticker = FixedTicker(ticks=[], name="steps")
    plot.xaxis.formatter = CustomJSTickFormatter(
        args={"steps": sequence.steps}, code="return steps[tick] ?? ''"
    )
    plot.xaxis.axis_label = "step t" if numbered else None


def _report_pointer(name: str, plot: Any) -> None:
    for event, way in (("mousemove", "point"), ("tap", "click"), ("doubletap", "again")):
        code = f"window.undertow && window.undertow.{way}({name!r}, cb_obj.x, cb_obj.y)"
        plot.js_on_event(event, CustomJS(code=code))
