"""The page of ``undertow doctor``: one file that loads nothing, with matplotlib's pictures in doctor.html."""

import inspect
import io
import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from undertow import __version__
from undertow.app.outputs import atomically
from undertow.app.reading import doctor_view
from undertow.app.reading.doctor_view import Subject
from undertow.app.words import literal
from undertow.doctor import CHECKS, Chart, Diagnosis, Finding, InOrder, NotJudged, Outcome
from undertow.palette import LINES, css_variables

# Stand-ins that become the colours of the page's style, so that pictures follow its light or dark scheme.
INK, CURVES = "#010101", [f"#{k:06x}" for k in range(0x020202, 0x020202 + len(LINES))]
COLOURS = (
    f":root {{ {css_variables('curve-')} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables('curve-', dark=True)} }} }}\n"
)
NAMES = {INK: "currentColor"} | {color: f"var(--curve-{k})" for k, color in enumerate(CURVES)}


def write(path: Path, subject: Subject, diagnosis: Diagnosis) -> None:
    """Write the page in one step.

    Args:
        path: The file; an existing one is replaced once the new page is complete.
        subject: The network and what it read.
        diagnosis: The outcomes of the checks.

    Raises:
        UserError: The file cannot be written.
    """
    content = page(subject, diagnosis)
    atomically(path, lambda beside: beside.write_text(content, encoding="utf-8"))


def page(subject: Subject, diagnosis: Diagnosis) -> str:
    """Make the page.

    Args:
        subject: The network and what it read.
        diagnosis: The outcomes of the checks.

    Returns:
        The HTML.
    """
    here = files("undertow.app.reading")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["title"] = doctor_view.title
    template = environment.from_string((here / "doctor.html").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(COLOURS + (here / "doctor.css").read_text(encoding="utf-8")),
        name=subject.name,
        about=subject.about,
        verdict=doctor_view.verdict(diagnosis),
        diagnosis=diagnosis,
        unjudged=doctor_view.unjudged(diagnosis),
        in_order=doctor_view.IN_ORDER,
        measured=_measured(diagnosis),
        pictures=_pictures(diagnosis),
        grounds=_grounds(),
        version=__version__,
        inspect=shlex.join(subject.inspect),
    )


def _measured(diagnosis: Diagnosis) -> list[InOrder | NotJudged]:
    """The outcomes that are no findings and have a picture."""
    return [
        outcome
        for outcome in diagnosis.outcomes
        if not isinstance(outcome, Finding) and outcome.chart is not None
    ]


def _grounds() -> dict[str, list[str]]:
    """What each check measures, its threshold and why: the paragraphs of its docstring, by its title."""
    found = {}
    for check in CHECKS:
        text = re.split(r"\n\s*(?:Args|Returns|Raises):\n", inspect.getdoc(check) or "")[0]
        paragraphs = [" ".join(part.split()).replace("``", "") for part in text.split("\n\n")]
        found[doctor_view.title(check.__name__.replace("_", "-"))] = paragraphs
    return found


def _pictures(diagnosis: Diagnosis) -> dict[str, Markup]:
    """A picture for each outcome with a chart, unless the same chart stands higher on the page."""
    shown: dict[str, Markup] = {}
    titles: set[str] = set()
    for outcome in [*diagnosis.findings, *_measured(diagnosis)]:
        if outcome.chart is not None and outcome.chart.title not in titles:
            titles.add(outcome.chart.title)
            shown[outcome.name] = _picture(outcome)
    return shown


def _picture(finding: Outcome) -> Markup:
    """An outcome's chart as SVG for a page: labelled, with ids that no other picture has."""
    assert finding.chart is not None
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": finding.name, "font.size": 9}):
        _draw(finding.chart).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{finding.name}-", svg[svg.index("<svg") :])
    for color, name in NAMES.items():
        svg = svg.replace(color, name)
    label = Markup.escape(f"{finding.chart.title}: {finding.chart.y_label} over {finding.chart.x_label}")
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def _draw(chart: Chart) -> Figure:
    """The picture that a chart describes."""
    figure = Figure(figsize=(5.4, 2.7), layout="constrained")
    axes = figure.subplots()
    drawn: list[Any] = []
    for values, color in zip(chart.curves.values(), CURVES, strict=False):
        if chart.bars:
            drawn.append(axes.bar(chart.x, values, width=0.9, color=color))
        else:
            marker = "o" if len(chart.x) < 4 else None
            drawn += axes.plot(chart.x, values, color=color, lw=1.8, marker=marker)
    for name, place in chart.marks.items():
        axes.axvline(place, color=INK, lw=1, ls="--")
        axes.annotate(
            literal(name), (place, 0.97), (-4, 0), axes.get_xaxis_transform(), "offset points",
            color=INK, ha="right", va="top",
        )  # fmt: skip
    if chart.log and _wide(chart):
        axes.set_yscale("log")
    if chart.bars:
        axes.set_ylim(0, max(1.0, *(float(np.nanmax(v)) for v in chart.curves.values())))
    axes.set(xlabel=literal(chart.x_label), ylabel=literal(chart.y_label))
    axes.set_title(literal(chart.title, 80), fontsize=10, loc="left", color=INK)
    _dress(axes)
    if len(chart.curves) > 1:
        axes.legend(drawn, [literal(name) for name in chart.curves], frameon=False, labelcolor=INK)
    return figure


def _wide(chart: Chart) -> bool:
    """Whether the values span more than a factor of 20, which calls for a logarithmic scale."""
    values = np.concatenate(list(chart.curves.values()))
    values = values[np.isfinite(values) & (values > 0)]
    return len(values) > 0 and values.max() > 20 * values.min()


def _dress(axes: Axes) -> None:
    """Give the axes the ink that follows the page's colours."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, which="both")
    axes.grid(alpha=0.15, color=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
