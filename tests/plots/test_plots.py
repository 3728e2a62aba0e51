"""undertow.plots: what is drawn, read back from the artists, against the arrays it was drawn from."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import undertow
from undertow import flow, plots
from undertow.flow import Summary
from undertow.records.flow_record import FlowRecord

T, N, C, H = 24, 3, 2, 6
LENGTHS = [24, 9, 0]


@pytest.fixture(autouse=True)
def settings_stay():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


def traced(cell="lstm", lengths=None, strength=1.0, **options):
    torch.manual_seed(2)
    module = {"lstm": undertow.LSTM, "rnn": undertow.RNN}[cell](C, H, dtype=torch.float64, **options)
    with torch.no_grad():
        module.weight_hh_l0.mul_(strength)
    with undertow.trace(module) as trace:
        module(torch.randn(T, N, C, dtype=torch.float64), lengths=lengths)[0].square().sum().backward()
    return trace.layers[0]


@pytest.fixture(scope="module")
def lstm():
    return traced()


@pytest.fixture(scope="module")
def short():
    """Sequences of 24, 9 and 0 steps."""
    return traced(lengths=LENGTHS)


@pytest.fixture(scope="module")
def rnn():
    return traced("rnn")


def reach(layer):
    return flow.gradient_by_lag(layer.tape, layer.weight_hh, np.ones((N, H)))


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def assert_printable(figure):
    """Nothing is cut off at the edge or too small to read, and nothing was left with pyplot."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(canvas.get_renderer())
            if text.get_clip_on() or not box.width:
                continue
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text
            assert 6 <= text.get_fontsize() <= 8, text
    for ax in figure.axes:
        if "step" in ax.get_xlabel() and "fraction" not in ax.get_xlabel():  # steps and lags are counted
            assert all(place == round(place) for place in ax.get_xticks()), ax.get_xlabel()
    assert figure.get_figwidth() <= 7.3  # two columns of a paper
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


def lines(ax):
    """The data lines: those with a value for each lag or step."""
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


# ----------------------------------------------------------------------------------- gates


def test_gate_maps_hold_the_arrays(lstm):
    figure, axes = plots.gate_maps(lstm, 1)
    assert_printable(figure)
    for name, ax in zip("ifgoc", axes, strict=True):
        (image,) = ax.images
        values = getattr(lstm, name)[:, 1] if name != "c" else lstm.c[1:, 1]
        np.testing.assert_array_equal(image.get_array(), values.T)
        reach = 1 if name != "c" else np.abs(values).max()
        assert image.get_clim() == (0 if name in "ifo" else -reach, reach)
    assert "along the cell alone (carousel)" in texts(figure)


def test_gate_maps_of_chosen_units_in_their_order(lstm):
    figure, axes = plots.gate_maps(lstm, 0, units=[4, 1])
    np.testing.assert_array_equal(axes[1].images[0].get_array(), lstm.f[:, 0, [4, 1]].T)
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes[1].get_yticklabels()] == ["4", "1"]


@pytest.mark.parametrize("way", ["forward", "reverse"])
def test_gate_maps_have_no_padding(way):
    layer = traced(lengths=LENGTHS, bidirectional=True)
    layer = layer if way == "forward" else layer.reverse
    _, axes = plots.gate_maps(layer, 1)
    for name, ax in zip("ifgoc", axes, strict=True):
        values = getattr(layer, name)[:, 1] if name != "c" else layer.c[1:, 1]
        drawn = ax.images[0].get_array()
        assert drawn.shape == (H, 9)
        np.testing.assert_array_equal(drawn, values[:9].T)
        assert np.isfinite(np.asarray(drawn)).all()


def test_gate_maps_of_a_plain_rnn(rnn):
    figure, axes = plots.gate_maps(rnn)
    assert_printable(figure)
    np.testing.assert_array_equal(axes[0].images[0].get_array(), rnn.h[1:, 0].T)


def test_gate_lines_hold_the_arrays(short):
    figure, axes = plots.gate_lines(short, [5, 0], 1)
    assert_printable(figure)
    assert axes.shape == (2, 2)
    for column, unit in enumerate([5, 0]):
        for row, names in enumerate(["ifgo", "ch"]):
            for name, line in zip(names, axes[row, column].lines, strict=True):
                values = getattr(short, name)[:, 1, unit]
                values = values[1:] if name in "ch" else values
                np.testing.assert_array_equal(line.get_ydata(), values[:9])


def test_gate_lines_of_a_plain_rnn(rnn):
    _, axes = plots.gate_lines(rnn, [3])
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), rnn.h[1:, 0, 3])


def test_saturation(lstm):
    found = flow.gate_saturation(lstm.tape, low=0.45, high=0.55)
    figure, axes = plots.saturation(found)
    assert_printable(figure)
    for name, ax in zip("ifo", axes, strict=True):
        closed, opened = getattr(found, f"{name}_closed"), getattr(found, f"{name}_open")
        np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.stack([closed, opened], axis=1))
        assert ax.get_xlabel() == f"fraction of steps {name} < 0.45"


def test_saturation_bars(lstm):
    found = flow.gate_saturation(lstm.tape, low=0.45, high=0.55)
    figure, ax = plots.saturation_bars({"a": found, "b": found})
    assert_printable(figure)
    bars = np.array([bar.get_width() for bar in ax.patches]).reshape(6, 3)
    np.testing.assert_allclose(bars.sum(axis=1), 1)
    np.testing.assert_allclose(bars[:3, 0], [getattr(found, f"{g}_closed").mean() for g in "ifo"])
    np.testing.assert_allclose(bars[:3, 2], [getattr(found, f"{g}_open").mean() for g in "ifo"])
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "a  i",
        "a  f",
        "a  o",
        "b  i",
        "b  f",
        "b  o",
    ]


# ------------------------------------------------------------------------------------ lags


def test_gradient_by_lag(lstm, rnn):
    named = {"LSTM": reach(lstm), "plain RNN": reach(rnn)}
    figure, ax = plots.gradient_by_lag(named)
    assert_printable(figure)
    for line, log_norm in zip(
        lines(ax), (named["LSTM"].log_dc_norm, named["plain RNN"].log_dh_norm), strict=True
    ):
        relative = np.median((log_norm - log_norm[0]) / np.log(10), axis=1)
        np.testing.assert_allclose(line.get_ydata(), relative)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(T + 1))
    assert all(name in texts(figure) for name in ("LSTM", "plain RNN", "True gradient", "∂E/∂c", "∂E/∂h"))


def test_gradients_smaller_than_any_float_are_drawn():
    by_lag = flow.GradientByLag(
        s=np.array([2000]), dh=np.zeros((2001, 1, 1)), dc=None,
        log_dh_norm=-np.arange(2001.0)[:, None], log_dc_norm=None,
    )  # fmt: skip
    figure, ax = plots.gradient_by_lag(by_lag)
    assert_printable(figure)
    assert lines(ax)[0].get_ydata()[-1] == pytest.approx(-2000 / np.log(10))
    assert r"$10^{-800}$" in texts(figure)


def test_lags_beyond_a_sequence_are_not_drawn(short):
    """The median is of the sequences that reach that far."""
    by_lag = reach(short)
    _, ax = plots.gradient_by_lag(by_lag)
    drawn = lines(ax)[0].get_ydata()
    log_norm = by_lag.log_dc_norm[:, :2]  # the third has no step
    relative = (log_norm - log_norm[0]) / np.log(10)
    np.testing.assert_allclose(drawn[1:10], np.median(relative[1:10], axis=1))
    np.testing.assert_allclose(drawn[10:], relative[10:, 0])


def test_a_gradient_of_nothing_draws_nothing(lstm):
    by_lag = flow.gradient_by_lag(lstm.tape, lstm.weight_hh, np.zeros((N, H)))
    figure, ax = plots.gradient_by_lag(by_lag)
    figure.draw_without_rendering()
    assert np.isnan(lines(ax)[0].get_ydata()).all()


@pytest.mark.parametrize("log", [False, True])
def test_three_gradients(lstm, log):
    found = flow.departure(lstm.tape, lstm.weight_hh)
    figure, ax = plots.three_gradients(found, flow.carousel(lstm.tape), log=log)
    assert_printable(figure)
    truth, chain, carousel = (line.get_ydata() for line in lines(ax))
    expected = np.median(found.log_true_norm - found.log_true_norm[0], axis=1)
    np.testing.assert_allclose(truth, expected / np.log(10) if log else np.exp(expected))
    for k in (0, 1, 7, T):
        product = flow.carousel(lstm.tape).product(T - k)
        norm = np.median(np.linalg.norm(product, axis=-1)) / np.sqrt(H)
        assert carousel[k] == pytest.approx(np.log10(norm) if log else norm)
        matrix = flow.textbook_chain(lstm.tape, lstm.weight_hh, T - k)
        norm = np.median(np.linalg.norm(matrix, axis=(1, 2))) / np.sqrt(H)
        assert chain[k] == pytest.approx(np.log10(norm) if log else norm)
    assert "not the derivative" in texts(figure)


def test_three_gradients_of_unequal_lengths(short):
    found = flow.departure(short.tape, short.weight_hh)
    _, ax = plots.three_gradients(found, flow.carousel(short.tape))
    carousel = lines(ax)[2].get_ydata()
    f = flow.carousel(short.tape).f
    norms = [np.linalg.norm(f[k - 5 : k, n].prod(axis=0)) / np.sqrt(H) for n, k in ((0, 24), (1, 9))]
    assert carousel[5] == pytest.approx(np.median(norms))
    assert carousel[20] == pytest.approx(np.linalg.norm(f[4:, 0].prod(axis=0)) / np.sqrt(H))


def test_departure(lstm):
    strong = traced(strength=6)
    named = {
        name: flow.departure(x.tape, x.weight_hh) for name, x in {"start": lstm, "strong": strong}.items()
    }
    figure, ax = plots.departure(named, colors={"strong": "#000000"})
    assert_printable(figure)
    for line, found in zip(lines(ax), named.values(), strict=True):
        assert np.isnan(line.get_ydata()[:2]).all()
        np.testing.assert_allclose(line.get_ydata()[2:], np.median(found.relative_error[2:], axis=1))
    assert lines(ax)[1].get_color() == "#000000"
    assert "not the derivative" in texts(figure)


# ----------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("way", ["forward", "reverse"])
def test_four_terms(way, monkeypatch):
    monkeypatch.setattr("undertow.plots.steps.BLOCK", 4 * H**2)  # several blocks
    layer = traced(lengths=LENGTHS, bidirectional=True)
    layer = layer if way == "forward" else layer.reverse
    figure, ax = plots.four_terms(layer.tape, layer.weight_hh, 1)
    assert_printable(figure)
    own = slice(0, 9) if way == "forward" else slice(T - 9, T)
    terms = flow.step_terms(layer.tape, layer.weight_hh)
    matrices = [
        terms.direct[..., None] * np.eye(H),
        terms.through_f,
        terms.through_i,
        terms.through_g,
        terms.total,
    ]
    for line, matrix in zip(ax.lines, matrices, strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.linalg.norm(matrix[own, 1], axis=(1, 2)) / np.sqrt(H))
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 10))


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_eigenvalues(cell):
    layer = traced(cell, lengths=LENGTHS)
    figure, ax = plots.eigenvalues(layer.tape, layer.weight_hh, 1, steps=[0, 8])
    assert_printable(figure)
    J = flow.state_jacobian(layer.tape, layer.weight_hh)[[0, 8], 1]
    expected = np.linalg.eigvals(J).ravel()
    offsets = ax.collections[0].get_offsets()
    np.testing.assert_allclose(offsets, np.stack([expected.real, expected.imag], axis=1), atol=1e-12)
    np.testing.assert_array_equal(ax.collections[0].get_array(), np.repeat([0, 8], J.shape[-1]))
    circle = ax.lines[0].get_xydata()
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1)


def test_eigenvalues_of_eight_steps_end_with_the_last(lstm):
    _, ax = plots.eigenvalues(lstm.tape, lstm.weight_hh)
    steps = np.unique(ax.collections[0].get_array())
    assert (steps[0], steps[-1], len(steps)) == (0, T - 1, 8)


def test_lyapunov(lstm, short):
    named = {
        name: flow.lyapunov(x.tape, x.weight_hh, k=4) for name, x in {"all": lstm, "short": short}.items()
    }
    figure, ax = plots.lyapunov(named)
    assert_printable(figure)
    for bars, found in zip(ax.containers, named.values(), strict=True):
        values = found.exponents[np.isfinite(found.exponents).all(axis=1)]
        np.testing.assert_allclose(bars.lines[0].get_ydata(), values.mean(axis=0))
        (segments,) = (c.get_segments() for c in bars.lines[2])
        np.testing.assert_allclose(
            [s[:, 1] for s in segments], np.stack([values.min(0), values.max(0)], axis=1)
        )
    assert len(named["short"].exponents) == N  # of which the empty sequence has none


# -------------------------------------------------------------------------------- training


def record(step, module="lstm", cell="lstm", **numbers):
    zero = dict.fromkeys(Summary.__dataclass_fields__, 0.5) | {"lags": 80.0}
    if cell == "rnn":
        zero |= dict.fromkeys(["f_mean", "f_low", "f_median", "f_high", "carousel_log"])
    return FlowRecord(step, module, 0, False, cell, Summary(**(zero | numbers)))


def test_flow_over_training():
    horizons, growth = [5.0, 40.0, np.inf], [-0.3, -0.02, 0.001]
    records = [
        record(
            50 * k,
            horizon_1pct=lag,
            horizon_e=2.0 + k,
            growth=growth[k],
            f_median=0.5 + k / 10,
            step_from_1=0.4 - k / 10,
        )
        for k, lag in enumerate(horizons)
    ]
    figure, axes = plots.flow_over_training(records, lag=60)
    assert_printable(figure)
    horizon, gate, step, grows = axes
    np.testing.assert_array_equal(horizon.lines[0].get_xdata(), [0, 50, 100])
    np.testing.assert_array_equal(
        horizon.lines[0].get_ydata(), [5, 40, 80]
    )  # no further than there was to look
    np.testing.assert_array_equal(horizon.lines[1].get_xydata(), [[100, 80]])
    assert horizon.lines[1].get_marker() == "^"
    np.testing.assert_array_equal(horizon.lines[2].get_ydata(), [2, 3, 4])
    assert horizon.lines[-1].get_ydata() == [60, 60]
    np.testing.assert_allclose(gate.lines[0].get_ydata(), [0.5, 0.6, 0.7])
    np.testing.assert_allclose(step.lines[0].get_ydata(), [0.4, 0.3, 0.2])
    np.testing.assert_array_equal(grows.lines[0].get_ydata(), growth)
    assert all(word in texts(figure) for word in ("True gradient", "carousel", "four terms"))


def test_flow_over_training_of_several_layers_and_rows_of_a_table():
    records = [record(k, name, cell) for k in range(3) for name, cell in (("a", "lstm"), ("b", "rnn"))]
    figure, axes = plots.flow_over_training([r.to_dict() for r in records])
    assert_printable(figure)
    assert len(axes[3].lines) == 3  # and the guide
    assert np.isnan(axes[1].lines[1].get_ydata()).all()
    assert all(name in texts(figure) for name in ("a.l0", "b.l0"))


def test_flow_over_training_of_a_monitor():
    module = undertow.RNN(C, H)
    monitor = undertow.FlowMonitor(module, every=1)
    for _ in range(3):
        module(torch.randn(T, N, C))[0].sum().backward()
        monitor.step()
    figure, axes = plots.flow_over_training(monitor.records)
    assert_printable(figure)
    np.testing.assert_array_equal(axes[3].lines[0].get_ydata(), [r.summary.growth for r in monitor.records])


# ------------------------------------------------------------------------------ what all share

ONE_PANEL = {
    "gradient_by_lag": lambda layer, ax: plots.gradient_by_lag(reach(layer), ax=ax),
    "three_gradients": lambda layer, ax: plots.three_gradients(
        flow.departure(layer.tape, layer.weight_hh), flow.carousel(layer.tape), ax=ax
    ),
    "departure": lambda layer, ax: plots.departure(flow.departure(layer.tape, layer.weight_hh), ax=ax),
    "four_terms": lambda layer, ax: plots.four_terms(layer.tape, layer.weight_hh, ax=ax),
    "eigenvalues": lambda layer, ax: plots.eigenvalues(layer.tape, layer.weight_hh, ax=ax),
    "lyapunov": lambda layer, ax: plots.lyapunov(flow.lyapunov(layer.tape, layer.weight_hh), ax=ax),
    "saturation_bars": lambda layer, ax: plots.saturation_bars(flow.gate_saturation(layer.tape), ax=ax),
}


@pytest.mark.parametrize("name", ONE_PANEL)
def test_axes_of_the_readers_own(name, lstm):
    figure = Figure()
    ax = figure.subplots()
    before = ax.xaxis.label.get_size()
    found, same = ONE_PANEL[name](lstm, ax)
    assert (found, same) == (figure, ax)
    assert ax.xaxis.label.get_size() == before
    figure.draw_without_rendering()


@pytest.mark.parametrize("name", ONE_PANEL)
def test_a_figure_of_ones_own_is_a_column_wide(name, lstm, tmp_path):
    figure, _ = ONE_PANEL[name](lstm, None)
    assert figure.get_figwidth() == pytest.approx(3.4)
    assert_printable(figure)
    for ending in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"figure.{ending}")


def test_panels():
    figure, axes = plots.panels(2, 3)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == pytest.approx((3 * 3.4, 2 * 2.3))


def test_names_at_the_ends_of_lines_do_not_overlap():
    same = flow.GradientByLag(np.array([5]), np.zeros((6, 1, 1)), None, -np.arange(6.0)[:, None], None)
    figure, ax = plots.gradient_by_lag(dict.fromkeys(("one", "two", "three"), same))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    named = [t for t in ax.texts if t.get_text() in ("one", "two", "three")]
    boxes = sorted((t.get_window_extent(canvas.get_renderer()) for t in named), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


def test_nothing_imports_pyplot_or_torch():
    code = """
import sys
from undertow import plots
plots.panels()
print([name in sys.modules for name in ("matplotlib.pyplot", "torch")])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[False, False]"


def test_without_matplotlib_it_says_what_to_install():
    code = "import sys; sys.modules['matplotlib'] = None; import undertow; undertow.plots"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.endswith("undertow.plots needs matplotlib: pip install 'undertow[plots]'\n")


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda x: plots.gate_maps(x, 3), ValueError, "sequence: expected 0 to 2, got 3"),
        (lambda x: plots.gate_maps(x.tape), TypeError, "layer: expected a Layer of a trace.*got Tape"),
        (lambda x: plots.gate_lines(x, [6]), ValueError, "units: expected 0 to 5, got 6"),
        (lambda x: plots.gate_lines(x, []), ValueError, "units: expected at least one"),
        (lambda x: plots.gradient_by_lag({}), ValueError, "gradients: expected at least one GradientByLag"),
        (lambda x: plots.gradient_by_lag({"a": x}), TypeError, "gradients: .*got Layer"),
        (lambda x: plots.four_terms(x, x.weight_hh), TypeError, "tape: expected a Tape.*got Layer"),
        (lambda x: plots.four_terms(x.tape, x.weight_hh[1:]), ValueError, "weight_hh: expected shape"),
        (lambda x: plots.eigenvalues(x.tape, x.weight_hh, steps=[24]), ValueError, "steps: .*23, got 24"),
        (lambda x: plots.saturation(x.tape), TypeError, "saturated: expected a GateSaturation"),
        (lambda x: plots.lyapunov(3), TypeError, "exponents: expected a Lyapunov.*got int"),
        (lambda x: plots.flow_over_training([]), ValueError, "records: .*FlowMonitor.missing"),
    ],
)  # fmt: skip
def test_bad_arguments(draw, error, message, lstm):
    with pytest.raises(error, match=message):
        draw(lstm)


def test_a_sequence_without_steps(short):
    for draw in (
        lambda: plots.gate_maps(short, 2),
        lambda: plots.gate_lines(short, [0], 2),
        lambda: plots.eigenvalues(short.tape, short.weight_hh, 2),
        lambda: plots.four_terms(short.tape, short.weight_hh, 2),
    ):
        with pytest.raises(ValueError, match="sequence: expected a sequence with at least 1 step, got 2"):
            draw()


def test_additions_to_the_equations_are_refused():
    """The plots differentiate the LSTM's own equations: a tape with peepholes would be drawn wrong."""
    layer = traced(peepholes=True)
    for draw in (plots.four_terms, plots.eigenvalues):
        with pytest.raises(ValueError, match=r"tape: expected the LSTM's .* equations, got peepholes added"):
            draw(layer.tape, layer.weight_hh)
