"""The page of a trace: its numbers are the trace's own, its gradients the true ones, its controls work."""

import re
import sys
from datetime import date, timedelta

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import undertow
from browser import chromium, opened
from undertow import equations, flow, report
from undertow.report import follows, page
from undertow.report.figures import LEFT, RIGHT

T, H = 60, 12
TEXT = ("</script><b>To be,\nor NOT to be: " * 4)[: T + 1]


class Reader(nn.Module):
    """Symbols in, scores of the next one out, at every step."""

    def __init__(self, cell, layers=2):
        super().__init__()
        self.embed = nn.Embedding(128, 8)
        self.rnn = cell(8, H, layers)
        self.head = nn.Linear(H, 128)

    def forward(self, x):
        self.y, _ = self.rnn(self.embed(x))
        return self.head(self.y)


def read(cell):
    """A trace with a loss at each step, E_t, and ∂E_t/∂y_t as autograd finds it, [T,H]."""
    torch.manual_seed(0)
    model, codes = Reader(cell), torch.tensor([ord(c) for c in TEXT])
    with undertow.trace(model) as trace:
        E = functional.cross_entropy(model(codes[:-1, None])[:, 0], codes[1:], reduction="none")  # [T]
        E.mean().backward()
    trace.loss_per_step = E
    y = model.y.detach().requires_grad_()
    (own,) = torch.autograd.grad(functional.cross_entropy(model.head(y)[:, 0], codes[1:], reduction="sum"), y)
    return trace, own[:, 0].double().numpy()


def answer_at_the_end(cell=undertow.LSTM):
    """A trace with a loss at the end alone, and its inputs."""
    torch.manual_seed(1)
    model, x = cell(2, H), torch.rand(T, 3, 2)
    with undertow.trace(model) as trace:
        y, _ = model(x)
        y[-1].square().sum().backward()
    return trace, x[:, 1].numpy()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def texts():
    return {"LSTM": read(undertow.LSTM), "plain RNN": read(undertow.RNN)}


@pytest.fixture(scope="module")
def text_page(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "text.html"
    trace = texts["LSTM"][0]
    trace.report(
        path,
        symbols=TEXT[:-1],
        targets=TEXT[1:],
        title="LSTM <b>reading</b>",
        loss_unit="nats",
        compare={"plain RNN": texts["plain RNN"][0]},
    )
    return path


@pytest.fixture(scope="module")
def series_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "series.html"
    trace, x = answer_at_the_end()
    trace.report(path, sequence=1, inputs=x, input_names=["value", "marker"])
    return path


def flowing(p, k=0):
    """What is drawn as flowing back in network k, [T,H] with NaN where nothing is, once it is done."""
    p.wait_for_function(f"undertow.at.from.kind === 'loss' || undertow.flows[{k}].done")
    values = p.evaluate(f"Array.from(undertow.flows[{k}].values, (x) => (Number.isNaN(x) ? null : x))")
    return np.array([np.nan if x is None else x for x in values]).reshape(T, -1)


def point_at(p, figure, t, row=0.5):
    """Where step t is in a figure, in pixels of the window; ``row`` from its top, 0 to 1."""
    panel = p.locator(f'[data-figure="{figure}"]')
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    return box["x"] + LEFT + (t + 0.5) / T * (box["width"] - LEFT - RIGHT), box["y"] + row * box["height"]


def without_hurry(p):
    """Let Bokeh wait: a drag that begins after 300 ms is a press to it, and slow clicks are single ones."""
    p.evaluate(
        """() => {
            const { UIGestures } = Bokeh.require("core/ui_gestures");
            UIGestures.press_threshold = UIGestures.doubletap_threshold = 60_000;
        }"""
    )


def numbers(p, card):
    """The rows of a card: name -> number, with all the digits that the page has."""
    digits = "td => td.querySelector('[title]')?.title ?? td.innerText"
    rows = p.locator(f"#{card} tr").all()
    text = {r.locator("th").inner_text(): r.locator("td").evaluate(digits) for r in rows}
    return {name: float(v.replace("−", "-").split()[0]) for name, v in text.items() if re.match("[−0-9]", v)}


@pytest.mark.parametrize("predicts_next", [True, False])
def test_words_stand_apart_and_the_text_is_what_was_read(browser, tmp_path, predicts_next):
    """Of tags, or anything but the next word, the text shows the words read, coloured by their own error."""
    trace, _ = read(undertow.LSTM)
    words = [f"word{k}" for k in range(T + 1)]
    trace.report(
        tmp_path / "words.html", symbols=words[:-1], targets=words[1:] if predicts_next else ["noun"] * T
    )
    with opened(browser, tmp_path / "words.html") as p:
        assert p.locator("#text").inner_text() == "".join(words if predicts_next else words[:-1])
        first, second = (span.bounding_box() for span in p.locator("#text span").all()[:2])
        assert second["x"] - first["x"] - first["width"] > 3
        p.locator("#text span[data-t='5']").click()
        rows = dict(line.split("\t") for line in p.locator("#step-card table").inner_text().splitlines())
        assert rows["reads"] == "“word5”"
        assert rows["next" if predicts_next else "wanted"] == ("“word6”" if predicts_next else "“noun”")
        assert p.evaluate("undertow.at.from") == {"kind": "error", "t": 5}


# ------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_stands_alone_and_follows_the_system_s_theme(browser, text_page, scheme):
    with opened(browser, text_page, scheme) as p:
        assert p.locator("html").get_attribute("data-theme") == scheme
        assert p.title() == p.locator("h1").inner_text() == "LSTM <b>reading</b>"
        assert p.locator("#text").inner_text().replace("↵ ", "\n") == TEXT
        assert p.locator("canvas").count() > 5


def test_what_the_cursor_reads_are_the_arrays(browser, text_page, texts):
    trace = texts["LSTM"][0]
    layer = trace.layers[1]
    with opened(browser, text_page) as p:
        for t in (0, 17, T - 1):
            p.mouse.move(*point_at(p, "0-c", t))
            assert p.locator("#step-card h2").inner_text() == f"step {t} of {T}"
            assert numbers(p, "step-card")["error, LSTM"] == pytest.approx(trace.loss_per_step[t], rel=1e-3)
            j = p.evaluate("undertow.at.units[0]")
            read = numbers(p, "unit-card")
            for name in "ifgo":
                assert read[f"{name}t"] == pytest.approx(getattr(layer, name)[t, 0, j], rel=1e-6)
            for name in "ch":
                assert read[f"{name}t"] == pytest.approx(getattr(layer, name)[t + 1, 0, j], rel=1e-6)


def test_a_click_chooses_the_unit_under_it_and_the_list_reads_all_units(browser, text_page, texts):
    layer = texts["LSTM"][0].layers[1]
    with opened(browser, text_page) as p:
        p.locator("#order").select_option("number")
        for row in (0, 5, H - 1):
            p.mouse.click(*point_at(p, "0-h", 30, (row + 0.5) / H))
            assert p.locator("#unit-card h2").inner_text().startswith(f"Unit {row} ")
        for row in p.locator("#units .row").all():
            j = int(row.get_attribute("data-unit"))
            shown = [float(s.inner_text().replace("−", "-")) for s in row.locator("span").all()[1:]]
            true = [layer.c[31, 0, j], layer.h[31, 0, j]] + [getattr(layer, g)[30, 0, j] for g in "fiog"]
            assert shown == pytest.approx(true, abs=0.00501)


@pytest.mark.parametrize("t", [0, 23, T - 1])
def test_the_error_of_a_clicked_step_flows_back_as_it_truly_does(browser, text_page, texts, t):
    """Against undertow.flow, from autograd's own ∂E_t/∂y_t; and the layer below through the equations."""
    with opened(browser, text_page) as p:
        for which in (1, 0):
            p.locator("#layer").select_option(str(which))
            p.mouse.click(*point_at(p, "norm", t))
            assert f"t = {t}" in p.locator("#flow-caption").inner_text()
            for k, (trace, own) in enumerate(texts.values()):
                found, true = flowing(p, k), true_flow(trace.layers, own, t, which)
                assert np.isnan(found[t + 1 :]).all()
                for s in range(t + 1):
                    assert found[s] == pytest.approx(true[s], rel=1e-4, abs=1e-5 * np.abs(true[s]).max())


def true_flow(layers, own, t, which):
    """∂E_t/∂c_s of layer ``which`` (of a plain RNN ∂E_t/∂h_s) for s = 0..t: [t+1,H]."""
    top = layers[1]
    if which == 1:
        by_lag = flow.gradient_by_lag(top.tape, top.weight_hh, own[t][None], t + 1)
        return (by_lag.dh if by_lag.dc is None else by_lag.dc)[t::-1, 0]
    dy = np.zeros((T, 1, H))
    dy[t] = own[t]
    for layer in reversed(layers):
        lstm = layer.cell == "lstm"
        backward = equations.lstm_backward if lstm else equations.rnn_backward
        x = np.zeros((T, 1, layer.weight_ih.shape[1]))
        gradients = backward(layer.tape, x, layer.weight_ih, layer.weight_hh, dy)
        dy = gradients.dx
    return (gradients.dc if lstm else gradients.dh)[1 : t + 2, 0]


def test_a_unit_s_own_gradient_is_a_row_of_the_cell_product(browser, text_page, texts):
    t = 40
    lstm, rnn = (texts[name][0].layers[1] for name in texts)
    with opened(browser, text_page) as p:
        p.mouse.move(*point_at(p, "norm", t))
        p.keyboard.press("u")
        units = p.evaluate("undertow.at.units")
        found, plain = flowing(p, 0), flowing(p, 1)
        assert f"unit {units[0]}" in p.locator("#flow-caption").inner_text()
    for s in (0, 10, 39, 40):
        true = flow.cell_product(lstm.tape, lstm.weight_hh, s + 1, t + 1)[0, units[0]]
        assert found[s] == pytest.approx(true, rel=1e-4, abs=1e-5 * np.abs(true).max())
        true = flow.state_product(rnn.tape, rnn.weight_hh, s + 1, t + 1)[0, units[1]]
        assert plain[s] == pytest.approx(true, rel=1e-4, abs=1e-5 * np.abs(true).max())


def test_the_whole_loss_is_the_trace_s_own_gradient(browser, text_page, texts):
    with opened(browser, text_page) as p:
        p.keyboard.press("Escape")
        assert np.array_equal(flowing(p, 0), texts["LSTM"][0].layers[1].dc[1:, 0])
        assert np.array_equal(flowing(p, 1), texts["plain RNN"][0].layers[1].dh[1:, 0])
        sizes = p.evaluate("Array.from(undertow.flows[0].norms)")
        assert sizes == pytest.approx(np.linalg.norm(texts["LSTM"][0].layers[1].dc[1:, 0], axis=-1), rel=1e-5)


def test_a_loss_at_the_end_flows_from_there_wherever_one_clicks(browser, series_page):
    layer = answer_at_the_end()[0].layers[0]
    with opened(browser, series_page) as p:
        p.mouse.click(*point_at(p, "0-c", 20))
        assert "loss depends only on the last step" in p.locator("#flow-caption").inner_text()
        assert flowing(p) == pytest.approx(layer.dc[1:, 1], rel=1e-3, abs=1e-6)
        assert numbers(p, "step-card")["value"] == pytest.approx(answer_at_the_end()[1][20, 0], rel=1e-5)


def test_the_whole_loss_is_shown_where_the_end_alone_cannot_be_followed(browser, tmp_path):
    """Of a bidirectional classifier, and of one that reads every layer's h_n: both read h_n alone."""
    for options in ({"bidirectional": True}, {"num_layers": 2}):
        model = undertow.LSTM(2, H, **options)
        with undertow.trace(model) as trace:
            model(torch.rand(T, 1, 2))[1][0].sum().backward()
        trace.loss_per_step = np.arange(1.0, T + 1)
        trace.report(tmp_path / "h_n.html", loss_weight=1.0)
        layers = [way for layer in trace.layers for way in layer.directions]
        with opened(browser, tmp_path / "h_n.html") as p:
            for k, layer in enumerate(layers):
                p.locator("#layer").select_option(str(k))
                p.locator("#from-loss").click()
                assert "how the whole loss depends" in p.locator("#flow-caption").inner_text()
                assert np.array_equal(flowing(p), layer.dc[1:, 0])
            p.mouse.click(*point_at(p, "norm", 20))
            followed = "num_layers" in options
            assert ("Not for the LSTM" in p.locator("#flow-caption").inner_text()) is not followed
            if followed:  # from the end, wherever one clicks
                assert f"t = {T - 1}" in p.locator("#flow-caption").inner_text()
                assert flowing(p) == pytest.approx(layers[-1].dc[1:, 0], rel=1e-3, abs=1e-6)
            p.reload()
            p.wait_for_selector("html[data-ready]", state="attached")
            assert p.evaluate("undertow.at.from.kind") == ("error" if followed else "loss")


@pytest.mark.parametrize(
    ("E", "begins"),
    [
        (np.where(np.arange(T) % 2, np.arange(T) % 48, np.nan), 47),
        (np.where(np.arange(T) < 20, np.arange(T), np.nan), 19),  # padding
        (np.zeros(T), 36),
        (np.full(T, np.nan), T - 1),
    ],
    ids=["between", "padding", "zero", "none"],
)
def test_steps_without_an_error_are_uncoloured_and_nothing_begins_there(browser, tmp_path, E, begins):
    trace, _ = read(undertow.LSTM)
    trace.loss_per_step = E
    trace.report(tmp_path / "nan.html", symbols=TEXT[:-1], targets=TEXT[1:])
    with opened(browser, tmp_path / "nan.html") as p:
        assert p.evaluate("undertow.at.t") == begins
        end = p.evaluate("model('error').y_range.end")
        assert end == pytest.approx(1.07 * (np.nanmax(E, initial=0) or 1), rel=1e-6)
        colours = p.evaluate(
            "Array.from(model('symbols-1-source').data.color ?? model('symbols-1-source').data.get('color'))"
        )
        assert [colour == "#00000000" for colour in colours] == np.isnan(E).tolist()


def test_a_step_that_stands_alone_has_a_dot(browser, tmp_path):
    """A line needs two: E_t at one step between others that ask nothing, and the flow from the first step."""
    trace, _ = read(undertow.LSTM)
    E = np.full(T, np.nan)
    E[[7, 20, 21, T - 1]] = 1.0
    trace.loss_per_step = E
    trace.report(tmp_path / "alone.html")

    def dots(p, source):
        values = p.evaluate(f"[...plain(model('{source}')).dot]")
        return [step for step, size in enumerate(values) if size]

    with opened(browser, tmp_path / "alone.html") as p:
        assert dots(p, "0-error-source") == [7, T - 1]
        p.keyboard.press("u")
        assert dots(p, "0-norm-source") == []
        p.keyboard.press("Home")
        p.keyboard.press("u")
        p.wait_for_function("undertow.flows[0].done && undertow.flows[0].to === 0")
        assert dots(p, "0-norm-source") == [0]


def test_large_arrays_are_kept_in_half_the_bytes_and_it_says_so(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LARGE", 0)
    trace, x = answer_at_the_end()
    trace.report(tmp_path / "half.html", sequence=1, inputs=x)
    layer = trace.layers[0]
    with opened(browser, tmp_path / "half.html") as p:
        assert "3 significant digits" in p.locator("#precision").inner_text()
        values = p.evaluate("Array.from(undertow.networks[0].layers[0].values.dc)")
        true = layer.dc[1:, 1]
        largest = np.abs(true).max(axis=1, keepdims=True)
        assert np.all(np.abs(np.reshape(values, (T, H)) - true) <= 2**-11 * largest)
        p.keyboard.press("Enter")
        assert flowing(p) == pytest.approx(true, rel=0.02, abs=0.02 * float(np.abs(true).max()))


# ----------------------------------------------------------------------------------- controls


def test_everything_can_be_done_from_the_keyboard(browser, text_page):
    with opened(browser, text_page) as p:

        def at(what):
            return p.evaluate(f"undertow.at.{what}")

        t = at("t")
        for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowLeft", "ArrowRight"):
            p.keyboard.press(key)
        assert at("t") == t - 11
        p.keyboard.press("Enter")
        assert at("from") == {"kind": "error", "t": t - 11}
        before = p.evaluate("undertow.rows[0].indexOf(undertow.at.units[0])")
        p.keyboard.press("ArrowDown" if before < H - 1 else "ArrowUp")
        assert abs(p.evaluate("undertow.rows[0].indexOf(undertow.at.units[0])") - before) == 1
        p.keyboard.press("n")
        assert at("network") == 1
        p.keyboard.press("+")
        span = p.evaluate("(() => { const x = doc.get_model_by_name('time'); return x.end - x.start })()")
        assert span == T / 2
        p.keyboard.press("0")
        p.keyboard.press("l")
        assert at("layer") == 0
        p.keyboard.press("d")
        assert p.locator("html").get_attribute("data-theme") == "dark"
        p.keyboard.press("?")
        assert p.locator("#keys").is_visible()
        p.keyboard.press("Escape")
        assert not p.locator("#keys").is_visible()


def test_dragging_zooms_in_steps_and_units_and_a_double_click_shows_all(browser, text_page):
    view = "[time().start, time().end, model('0-units').start, model('0-units').end]"
    with opened(browser, text_page) as p:
        without_hurry(p)
        whole = p.evaluate(view)
        p.mouse.move(*point_at(p, "0-c", 9.5, 0.25))
        p.mouse.down()
        p.mouse.move(*point_at(p, "0-c", 29.5, 0.75), steps=5)
        p.mouse.up()
        start, end, bottom, top = p.evaluate(view)
        assert (start, end) == pytest.approx((9.5, 29.5), abs=0.2)
        assert (bottom, top) == pytest.approx((H / 4 - 0.5, 3 * H / 4 - 0.5), abs=0.5)
        p.keyboard.press("PageDown")
        assert p.evaluate(view)[0] == pytest.approx(19.5, abs=0.3)
        p.mouse.dblclick(*point_at(p, "0-c", 30))
        p.wait_for_function(f"(whole) => String({view}) === String(whole)", arg=whole)


def test_units_are_found_and_ordered_by_what_they_do(browser, text_page, texts):
    layer = texts["LSTM"][0].layers[1]
    with opened(browser, text_page) as p:
        p.locator("#order").select_option("memory")
        assert p.evaluate("undertow.rows[0]") == np.argsort(-layer.f[:, 0].mean(0), kind="stable").tolist()
        p.locator("#order").select_option("activity")
        assert p.evaluate("undertow.rows[0]") == np.argsort(-layer.c[1:, 0].std(0), kind="stable").tolist()
        p.keyboard.press("/")
        p.keyboard.type("7")
        assert p.evaluate("undertow.rows[0]") == [7]
        assert p.locator("[id='0-shown']").inner_text().startswith(f"1 of {H} units")
        p.keyboard.press("Enter")  # keeps them; keys are for the page again
        p.keyboard.press("d")
        assert p.evaluate("undertow.rows[0]") == [7] and p.locator("#search").input_value() == "7"
        p.keyboard.press("/")
        p.keyboard.press("Escape")
        assert len(p.evaluate("undertow.rows[0]")) == H and p.locator("#search").input_value() == ""
        p.locator("#search").fill("no such thing")
        assert p.locator("#units .row").count() == 0
        p.locator("#search").fill("")
        assert len(p.evaluate("undertow.rows[0]")) == H


def test_every_control_has_a_name(browser, text_page):
    with opened(browser, text_page) as p:
        for control in p.locator("button, select, input, [tabindex='0']").all():
            assert control.evaluate("e => (e.ariaLabel || e.labels?.[0]?.innerText || e.textContent).trim()")
        assert p.locator('[role="img"]').count() == p.locator(".panel").count()
        assert all(e.get_attribute("aria-label") for e in p.locator('[role="img"]').all())


def test_all_pictures_stand_on_one_axis_whatever_their_rows_are_called(browser, tmp_path):
    trace, x = answer_at_the_end()
    trace.report(tmp_path / "page.html", sequence=1, inputs=x * 1e-9, input_names=["W" * 40, "x"])
    with opened(browser, tmp_path / "page.html") as p:
        borders = p.evaluate("plots().map((plot) => plot.outer_width - plot.inner_width)")
        assert borders == [LEFT + RIGHT] * len(borders)
        assert len(borders) == 9


def cell(p, card, name):
    """What the row of a card says, as it is seen."""
    rows = p.locator(f"#{card} tr").all()
    return {r.locator("th").inner_text(): r.locator("td").inner_text() for r in rows}[name]


def test_values_have_four_digits_and_a_category_its_word(browser, tmp_path):
    """A number is shown rounded; all its digits stand in its title."""
    trace, x = answer_at_the_end()
    x = np.zeros((T, 5))
    x[20] = (1 / 3, -1234567, 1, 0, 2e-7)
    names = ["share", "people", "weather=fog", "weather=rain", "tiny"]
    trace.report(tmp_path / "page.html", sequence=1, inputs=x, input_names=names, steps=DATES)
    with opened(browser, tmp_path / "page.html") as p:
        p.mouse.move(*point_at(p, "norm", 20))
        assert p.locator("#step-card h2").inner_text() == f"step 20 of {T} · {DATES[20]}"
        seen = {name: cell(p, "step-card", name) for name in ("share", "people", "weather", "tiny")}
        assert seen == {"share": "0.3333", "people": "−1234567", "weather": "fog", "tiny": "2e−7"}
        assert p.locator("#step-card tr").count() == 5  # with the gradient
        assert numbers(p, "step-card")["share"] == pytest.approx(1 / 3, rel=1e-7)
        for name in ("ct", "it", "gradient by ct"):
            assert len(re.sub("e.*|[^0-9]", "", cell(p, "unit-card", name)).lstrip("0")) <= 4
        p.keyboard.press("ArrowLeft")
        assert cell(p, "step-card", "weather") == "–"


def test_only_columns_of_one_category_are_shown_as_its_words():
    def rows(names, inputs):
        shown = report.networks.sequence_of(2, None, None, inputs, names, None, "", "", "")
        return {row["name"]: row.get("words") for row in report.page.input_rows(shown)}

    words = {"day": ["sun", "fog"]}
    assert rows(["a", "day=sun", "day=fog"], [[5, 1, 0], [6, 0, 1]]) == {"a": None} | words
    assert rows(["day=sun", "day=fog"], [[0, 0], [0, 1]]) == words
    for both in ([[1, 1], [0, 1]], [[0.5, 0], [0, 1]]):
        assert rows(["day=sun", "day=fog"], both) == {"day=sun": None, "day=fog": None}
    assert rows(["day", "day=sun", "day=fog"], [[5, 1, 0]] * 2) == dict.fromkeys(
        ["day", "day=sun", "day=fog"]
    )
    assert rows(["day=sun"], [[1], [0]]) == {"day=sun": None}
    assert rows(["a", "a"], [[1, 2], [0, 1]]) == {"a": None}


def test_layers_carry_the_names_that_modules_have(browser, text_page, series_page):
    with opened(browser, text_page) as p:
        assert p.locator("[id='0-layer']").inner_text() == "rnn, layer 1"
        assert p.locator("#unit-card h2").inner_text().endswith("LSTM, rnn, layer 1")
        assert p.locator("#layer option").all_inner_texts() == ["rnn, layer 0", "rnn, layer 1"]
    with opened(browser, series_page) as p:  # the model is the LSTM itself
        assert p.locator("#unit-card h2").inner_text().endswith(" LSTM")


def test_on_a_phone_the_values_stand_below_what_was_tapped(browser, tmp_path):
    with opened(browser, dated(tmp_path / "page.html"), width=390, height=844) as p:
        for figure in ("norm", "0-c", "0-g"):
            p.mouse.click(*point_at(p, figure, 20))
            assert p.locator("#step-card h2").inner_text().startswith("step 20 of")
            for card in ("#step-card", "#unit-card"):
                box = p.locator(card).bounding_box()
                assert 400 < box["y"] < 800
        p.locator("#fold").click()
        assert not p.locator("#step-card").is_visible()
        p.locator("#fold").click()
        assert p.locator("#step-card").is_visible()


def test_on_a_phone_a_legend_is_one_text(browser, tmp_path):
    with opened(browser, dated(tmp_path / "page.html"), width=390) as p:
        legend = p.locator(".legend", has_text="a row for each unit").first
        assert legend.evaluate("e => getComputedStyle(e).display") in ("inline", "block")
        assert legend.inner_text().startswith(f"a row for each unit; all {H} units, by similarity")


DATES = [str(date(2015, 11, 29) + timedelta(days=t)) for t in range(T)]


def dated(path):
    trace, x = answer_at_the_end()
    trace.report(path, sequence=1, inputs=x, input_names=["value", "marker"], steps=DATES)
    return path


@pytest.mark.parametrize("steps", [None, DATES], ids=["numbers", "dates"])
def test_the_marks_stand_on_the_row_and_the_step_they_mark_in_every_panel(browser, tmp_path, steps):
    trace, x = answer_at_the_end()
    trace.report(tmp_path / "page.html", sequence=1, inputs=x, steps=steps)
    with opened(browser, tmp_path / "page.html") as p:
        p.locator("#order").select_option("number")
        for j in (0, 5, H - 1):
            p.evaluate(f"choose({j})")
            for panel in p.locator(".panel").all():
                name = panel.get_attribute("data-figure")
                height = p.evaluate(f"model('{name}').inner_height")
                cursor = panel.locator(".mark.cursor").bounding_box()
                assert cursor["height"] == pytest.approx(height, abs=1)
                assert cursor["y"] == pytest.approx(panel.bounding_box()["y"] + 2, abs=1)
                if panel.locator(".mark.unit").count():
                    line = panel.locator(".mark.unit").bounding_box()["y"]
                    assert line == pytest.approx(cursor["y"] + (j + 0.5) / H * height, abs=1)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_names_of_steps_do_not_touch(browser, tmp_path, width):
    with opened(browser, dated(tmp_path / "page.html"), width=width) as p:
        for zoom in ("0", "+", "+"):
            p.keyboard.press(zoom)
            start, end, inner = p.evaluate(
                "[time().start, time().end, model('0-g').inner_width]",
            )
            ticks = np.array(p.evaluate("model('steps').ticks"))
            name = p.evaluate("pen.measureText('2015-11-29').width")
            assert len(ticks) >= 2
            assert np.diff(ticks).min() * inner / (end - start) > name + 8
            assert ((ticks >= start) & (ticks <= end)).all()


@pytest.mark.parametrize("width", [390, 420, 700, 1280, 1920])
def test_nothing_sticks_out(browser, text_page, width):
    with opened(browser, text_page, width=width) as p:
        assert p.locator("header").bounding_box()["height"] < 160
        assert p.evaluate("document.documentElement.scrollWidth") <= width


# ------------------------------------------------------------------------------ without a browser


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"symbols": "abc"}, ValueError, "symbols: expected 60, one for each step, got 3"),
        ({"inputs": np.zeros((T, 2)), "input_names": ["a"]}, ValueError, "input_names: expected 2"),
        ({"inputs": np.full((T, 2), np.nan)}, ValueError, "inputs: expected finite numbers"),
        ({"sequence": 3}, IndexError, "sequence: expected 0 to 2, got 3"),
        ({"module": "decoder"}, KeyError, "no LSTM or RNN is called 'decoder'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        answer_at_the_end()[0].report(tmp_path / "page.html", **options)
    assert not (tmp_path / "page.html").exists()


def test_traces_of_different_lengths_are_not_compared(tmp_path):
    with undertow.trace(model := undertow.LSTM(2, H)) as longer:
        model(torch.rand(T + 5, 3, 2))
    with pytest.raises(ValueError, match=f"compare: expected .* {T} steps, got {T + 5} of 'longer'"):
        answer_at_the_end()[0].report(tmp_path / "page.html", compare={"longer": longer})


def test_a_page_that_cannot_be_written_leaves_the_older_one_and_nothing_beside_it(tmp_path, small_files):
    trace, _ = answer_at_the_end()
    trace.report(tmp_path / "page.html", symbols=["a"] * T)
    before = (tmp_path / "page.html").read_bytes()
    with small_files, pytest.raises(OSError, match="File too large"):
        trace.report(tmp_path / "page.html", symbols=["b"] * T)
    assert (tmp_path / "page.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symbols": ["a", "\ud800"] * (T // 2)}, r"symbols: expected Unicode text, got '\\ud800' at 1$"),
        ({"symbols": "a" * T, "targets": ["a"] * (T - 1) + ["\udcff"]}, r"targets: .* got '\\udcff' at 59$"),
        ({"steps": list(range(T))}, "steps: expected Unicode text, got 0 at 0$"),
        ({"title": "\ud800"}, r"title: expected Unicode text, got '\\ud800'$"),
        ({"name": "\ud800"}, r"name: expected Unicode text, got '\\ud800'$"),
        ({"answer": "\ud800"}, r"answer: expected Unicode text, got '\\ud800'$"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        answer_at_the_end()[0].report(tmp_path / "page.html", **options)
    assert not list(tmp_path.iterdir())


def test_a_loss_per_step_that_does_not_fit_is_named():
    trace, _ = answer_at_the_end()
    for shape in [(T - 1,), (T, 2), (T - 1, 3)]:
        with pytest.raises(ValueError, match=r"loss_per_step: expected \[60\] or \[60, 3\]"):
            report.network("LSTM", trace.layers, 1, np.zeros(shape))
    found = report.network("LSTM", trace.layers, 1, np.arange(3.0 * T).reshape(T, 3))
    assert found.error.tolist() == list(range(1, 3 * T, 3))
    assert found.weight == pytest.approx(1 / (3 * T))


def test_bokeh_that_is_missing_is_said_to_be(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("bokeh", "undertow.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(undertow, "report", raising=False)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs bokeh.*pip install 'undertow\[app\]'"):
        answer_at_the_end()[0].report(tmp_path / "page.html")


def test_without_backward_there_is_a_page_that_says_so(browser, tmp_path):
    with undertow.trace(undertow.LSTM(2, H)) as trace, torch.no_grad():
        pass
    model = undertow.LSTM(2, H)
    with undertow.trace(model) as trace, torch.no_grad():
        model(torch.rand(T, 1, 2))
    trace.report(tmp_path / "forward.html")
    with opened(browser, tmp_path / "forward.html") as p:
        assert "backward was not called" in p.locator("#flow-caption").inner_text()
        p.keyboard.press("u")
        assert np.isfinite(flowing(p)[: p.evaluate("undertow.at.t") + 1]).all()


def test_padding_is_left_out_and_two_directions_are_shown(browser, tmp_path):
    model = undertow.LSTM(2, H, bidirectional=True)
    with undertow.trace(model) as trace:
        y, _ = model(torch.rand(T, 2, 2), lengths=[T, 25])
        y.sum().backward()
    trace.report(tmp_path / "both.html", sequence=1)
    shown = report.network("LSTM", trace.layers, 1)
    assert shown.T == 25
    assert [each.name for each in shown.layers] == ["forward", "reverse"]
    assert np.array_equal(shown.layers[1].values["c"], trace.layers[0].reverse.c[1:26, 1])
    assert np.isfinite(shown.layers[1].values["dc"]).all()
    with opened(browser, tmp_path / "both.html") as p:
        p.keyboard.press("Enter")
        assert "two directions" in p.locator("#flow-caption").inner_text()


def test_with_something_added_to_the_equations_only_the_whole_loss_is_followed(browser, tmp_path):
    model = undertow.LSTM(2, H, peepholes=True)
    with undertow.trace(model) as trace:
        model(torch.rand(T, 1, 2))[0].sum().backward()
    trace.report(tmp_path / "peepholes.html")
    with opened(browser, tmp_path / "peepholes.html") as p:
        for key in ("Enter", "u"):
            p.keyboard.press(key)
            assert "with peepholes added to the equations" in p.locator("#flow-caption").inner_text()


def test_a_layer_that_feeds_the_loss_beside_the_top_is_not_followed_from_one_step():
    model = undertow.LSTM(2, H, num_layers=2)
    with undertow.trace(model) as trace:
        y, (h_n, _) = model(torch.rand(T, 1, 2))
        (y.sum() + 100 * h_n[0].sum()).backward()
    below, top = report.network("LSTM", trace.layers).layers
    assert "does not account for it (its own h_n is read, or dropout" in below.why_not
    assert top.why_not == ""


@pytest.mark.parametrize("cell", [undertow.LSTM, undertow.RNN])
def test_in_bfloat16_no_single_step_is_followed(cell, tmp_path):
    """What would seem to enter before the end is rounding: 0.2 % of the gradient."""
    model, x = cell(3, 8, dtype=torch.bfloat16), torch.rand(30, 2, 3, dtype=torch.bfloat16)
    with undertow.trace(model) as trace:
        model(x)[0][-1].sum().backward()
    trace.save(tmp_path / "trace.safetensors")
    for each in (trace, undertow.load_trace(tmp_path / "trace.safetensors")):
        (layer,) = report.network("bfloat16", each.layers).layers
        assert "only the whole loss" in layer.why_not
    model = cell(3, 8)  # of such weights, in float32
    with undertow.trace(model.bfloat16().float()) as trace:
        model(x.float())[0][-1].sum().backward()
    assert report.network("float32", trace.layers).layers[0].why_not == ""


def test_weights_of_zero_in_float32_are_not_taken_for_bfloat16(tmp_path):
    model = undertow.LSTM(3, 8)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    with undertow.trace(model) as trace:
        model(torch.rand(5, 2, 3))[0][-1].sum().backward()
    trace.save(tmp_path / "trace.safetensors")
    for each in (trace, undertow.load_trace(tmp_path / "trace.safetensors")):
        assert each.layers[0].dtype == "float32"
        assert report.network("zero", each.layers).layers[0].why_not == ""


def test_a_gradient_that_vanishes_in_float32_enters_at_the_end_alone():
    torch.manual_seed(0)
    model = undertow.RNN(2, 64)
    with undertow.trace(model) as trace:
        model(torch.rand(300, 1, 2))[0][-1].sum().backward()
    assert not trace.layers[0].dh[1].any()  # it has vanished
    assert report.network("RNN", trace.layers).only_at_the_end


def test_a_saved_trace_makes_the_same_page(tmp_path):
    trace, x = answer_at_the_end()
    trace.save(tmp_path / "trace.safetensors")
    loaded = undertow.load_trace(tmp_path / "trace.safetensors")
    one, other = (report.network("LSTM", each.layers, 1) for each in (trace, loaded))
    assert np.array_equal(one.entering, other.entering)
    loaded.report(tmp_path / "page.html", sequence=1, inputs=x)
    assert (tmp_path / "page.html").stat().st_size > 1e6


def test_units_follow_what_they_were_made_of():
    symbols = [*"The Quick brown FOX\njumps over 13 lazy dogs, again and again."]
    features = follows.features_of(len(symbols), symbols, None, [])
    capital = np.array([s.isupper() for s in symbols]) * 2.0
    found = follows.follow(np.stack([capital, -features["“a”"], np.zeros(len(symbols))], axis=1), features)
    assert [found.names[found.match[j, 0]] for j in (0, 1)] == ["capitals", "“a”"]
    assert found.r[:2, 0] == pytest.approx([1, -1])
    assert np.all(found.r[2] == 0)


def test_inputs_are_followed_now_of_late_and_summed():
    x = np.random.default_rng(0).normal(size=(200, 2))
    features = follows.features_of(200, None, x, ["a", "b"])
    kept = np.cumsum(x[:, 1])
    found = follows.follow(np.stack([x[:, 0], kept], axis=1), features)
    assert [found.names[m] for m in found.match[:, 0]] == ["a", "b, sum so far"]


@pytest.mark.parametrize(("T", "H"), [(1, 1), (2, 3), (7, 1)])
def test_the_smallest_networks_and_sequences_have_a_page_too(browser, tmp_path, T, H):
    for cell in (undertow.LSTM, undertow.RNN):
        model = cell(20, H)
        x = torch.rand(T, 1, 20)
        with undertow.trace(model) as trace:
            model(x)[0].sum().backward()
        trace.report(tmp_path / "small.html", inputs=x[:, 0], symbols=["a word"] * T)
        with opened(browser, tmp_path / "small.html") as p:
            for key in ("ArrowLeft", "Enter", "u", "+", "-", "s", "n", "ArrowDown", "Escape"):
                p.keyboard.press(key)
            trace.report(tmp_path / "small.html", inputs=x[:, 0])
            p.reload()
            p.wait_for_selector("html[data-ready]", state="attached")
            assert p.locator("#step-card h2").inner_text() == f"step {T - 1} of {T}"
