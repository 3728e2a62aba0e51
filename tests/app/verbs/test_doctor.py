"""``undertow doctor``: healthy runs are told so, sick ones what is wrong, on the terminal and on the page."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from browser import chromium, opened
from inputs import CLASSIFY, FORECAST, TEXT
from undertow import problems
from undertow.app.reading import doctor_page, doctor_view
from undertow.app.reading.watch import watch
from undertow.app.runs.folder import open_run
from undertow.app.terminal import Terminal
from undertow.app.verbs.doctor import known_lag, training_of
from undertow.doctor import CHECKS, Chart, Diagnosis, Evidence, Finding, NotJudged, Remedy, diagnose

LAG, H = 60, 16
SPEEDY = ("--lr", 0.02, "-q")
WAYS = {
    "text": (*TEXT, "--epochs", 3),
    "forecast": (*FORECAST, "--epochs", 40, "--patience", 40),
    "classify": (*CLASSIFY, "--epochs", 5),
}


@pytest.fixture
def healthy(undertow, text, waves, walks):
    """``healthy("text", "lstm")`` -> the folder of a run that has learnt something."""
    sources = {"text": text, "forecast": waves, "classify": walks}

    def train(task, cell="lstm"):
        result = undertow("train", sources[task], *WAYS[task], "--cell", cell, "--folder", task, *SPEEDY)
        assert result.code == 0, result.err
        return Path(task)

    return train


@pytest.fixture
def fresh(undertow):
    """A run on adding, hardly begun; its weights are what a test makes of them."""
    options = ("--steps", LAG, "--hidden-size", H, "--epochs", 1, "--lr", 1e-3, "--batch-size", 4, "-q")
    options += ("--init", "torch")
    result = undertow("train", "adding", *options, "--folder", "run")
    assert result.code == 0, result.err
    return Path("run")


def weigh(run, change):
    """Let ``change`` alter the weights of a run."""
    tensors = load_file(run / "model.safetensors")
    change(tensors)
    save_file(tensors, run / "model.safetensors")


def rows(run, train, **options):
    """Give a run another course of training: one loss for each evaluation."""
    row = {"lr": 0.01, "grad_norm": 0.5, "clipped": 0.0} | options
    every = [
        row
        | {
            "step": 100 * (k + 1),
            "epoch": k + 1,
            "seconds": k,
            "train_loss": loss,
            "validation_loss": loss,
            "cost": loss,
        }
        for k, loss in enumerate(train)
    ]
    every = [
        row | {"train": row["train_loss"] ** 0.5, "validation": row["validation_loss"] ** 0.5}
        for row in every
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in every))


def chrono(tensors):
    hold = np.linspace(1, LAG - 1, H)
    tensors["rnn.bias_ih_l0"].zero_()
    for k, sign in ((0, -1), (1, 1)):  # i, f
        tensors["rnn.bias_hh_l0"][k * H : (k + 1) * H] = sign * tensors["rnn.bias_hh_l0"].new_tensor(
            np.log(hold)
        )


def dead(tensors):
    chrono(tensors)
    tensors["rnn.bias_hh_l0"][:H] = -20


def exploding(tensors):
    tensors["rnn.weight_hh_l0"] *= 16


FALLING = [0.16, 0.15, 0.14, 0.13]


# ------------------------------------------------------------------------------------- runs of all kinds


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("task", list(WAYS))
def test_healthy_runs_are_left_in_peace(undertow, healthy, task, cell):
    run = healthy(task, cell)
    result = undertow("doctor", run)
    assert result.code == 0, result.err
    assert "Nothing is wrong as far as can be judged." in result.out
    assert "not judged" in result.out and "how far back the answer lies is not known" in " ".join(
        result.out.split()
    )
    assert f"With pictures in {task}/doctor.html" in result.out
    page = (run / "doctor.html").read_text(encoding="utf-8")
    assert "Nothing is wrong as far as can be judged." in page
    assert "<article" not in page
    assert "What was measured" in page and "docs/" not in page
    for heading in ["Memory horizon", "Gradients do not explode", *["Gates move"] * (cell == "lstm")]:
        section = page[page.index(f'-title">{heading}</h2>') :].partition("</section>\n</section>")[0]
        assert "<svg" in section and "<td>" in section, heading


def test_a_chrono_start_is_healthy(undertow, fresh):
    weigh(fresh, chrono)
    rows(fresh, FALLING)
    result = undertow("doctor", fresh)
    assert "Nothing is wrong" in result.out
    assert "Errors reach as far back as the task asks for" in result.out


SICK = {
    "forget-bias": (lambda tensors: None, FALLING, {}),
    "dead-units": (dead, FALLING, {}),
    "exploding": (exploding, FALLING, {}),
    "clip": (chrono, FALLING, {"grad_norm": 2000.0, "clipped": 1.0}),
    "learning-rate-low": (chrono, [1.2, 1.19, 1.18, 1.17], {"lr": 1e-6}),
    "learning-rate-high": (chrono, [0.15, 4.0, 7.0, 0.2], {"lr": 1.0}),
    "not-learning": (chrono, [0.17, 0.169, 0.168, 0.1667], {}),
}


@pytest.mark.parametrize("name", SICK)
def test_sick_runs_are_found_out(undertow, fresh, name):
    change, losses, course = SICK[name]
    weigh(fresh, change)
    rows(fresh, losses, **course)
    result = undertow("doctor", fresh)
    assert result.code == 0, result.err
    first = re.search(r"^(problem|warning)  (.*)$", result.out, re.MULTILINE)
    assert first[2] == doctor_view.title(name)
    page = (fresh / "doctor.html").read_text(encoding="utf-8")
    assert re.findall(r'<article class="\w+" id="([\w-]+)"', page)[0] == name


def test_terminal_and_page_say_what_the_diagnosis_does(undertow, fresh):
    rows(fresh, [0.17, 0.169, 0.168, 0.1667])
    out = undertow("doctor", fresh).out
    page = Text.of(fresh / "doctor.html")
    watched = watch(open_run(fresh), sequences=16)
    found = diagnose(watched.trace, watched.model, lag=LAG, training=training_of(watched))
    assert [finding.name for finding in found.findings] == ["forget-bias", "memory-horizon", "not-learning"]
    assert (
        "1 problem, and 2 more that follow from it" in out
        and "1 problem, and 2 more that follow from it" in page
    )
    for finding in found.findings:
        for said in (" ".join(out.split()), page):
            assert finding.sentence in said
            for line in finding.evidence:
                assert line.what in said and line.amount in said
    for code in ('undertow.LSTM(..., init="chrono", max_lag=60)', "undertow train ... --init chrono"):
        assert code in found.causes[0].remedies[0].code
        assert code in out and code in page
    assert "(follows from forget bias, memory horizon)" in out


def test_the_lag_and_the_guess_are_those_of_the_task(undertow, healthy, fresh):
    problem = watch(open_run(fresh))
    assert known_lag(problem) == LAG
    training = training_of(problem)
    assert training.baseline == pytest.approx(1 / 6)
    assert (training.baseline_name, training.clip) == ("the best constant guess", 1.0)
    forecast = watch(open_run(healthy("forecast")))
    assert known_lag(forecast) is None
    best, run = training_of(forecast), forecast.run
    name = min(run.baselines, key=run.baselines.get)
    assert name in best.baseline_name
    row = run.read_metrics()[-1]
    unit = row["validation"] ** 2 / row["validation_loss"]  # of the squared error, of the loss's
    assert best.baseline == pytest.approx(run.baselines[name] ** 2 / unit, rel=1e-6)
    classes = watch(open_run(healthy("classify")))
    assert training_of(classes).baseline == pytest.approx(math.log(2))
    assert training_of(classes).baseline_name == "knowing how frequent each class is"
    classes.run.baselines["commonest class"] = 0.95  # to say so always is no skill
    assert training_of(classes).baseline == pytest.approx(-0.95 * math.log(0.95) - 0.05 * math.log(0.05))
    text = watch(open_run(healthy("text")), sequences=16)
    share = np.unique(text.reading.batch.y, return_counts=True)[1] / text.reading.batch.y.numel()
    assert training_of(text).baseline == pytest.approx(-(share * np.log(share)).sum())


@pytest.mark.parametrize(
    ("name", "steps", "exact"),
    [
        ("copy-memory", 20, 10 * math.log(8) / 40),  # blanks till step 30, then letters
        ("lag-noise-free", 12, math.log(2) / 12),  # only the last symbol is not known from the step
        ("reber", 30, None),
    ],
)
def test_knowing_the_time_is_a_guess_to_beat(undertow, name, steps, exact):
    """Where every step is asked, a clock alone is right nearly always: that is no memory."""
    options = ("--steps", steps, "--hidden-size", 4, "--epochs", 1, "-q", "--folder", "run")
    assert undertow("train", name, *options).code == 0
    watched = watch(open_run(Path("run")))
    found = training_of(watched)
    assert found.baseline_name == "knowing how frequent each class is at each step"
    _, y = problems.get(name).sample(np.random.default_rng(5), 20_000, steps)
    best = (
        sum(
            -sum(n * math.log(n / counts.sum()) for n in counts)
            for row in y
            if len(counts := np.unique(row[row >= 0], return_counts=True)[1])
        )
        / (y >= 0).sum()
    )
    assert found.baseline == pytest.approx(best, rel=0.02)
    if exact is not None:
        assert found.baseline == pytest.approx(exact, rel=0.01)
    guesses = watched.run.baselines
    assert guesses["best guess at each step"] >= guesses["best constant guess"]
    rows(Path("run"), [found.baseline * part for part in (1.4, 1.2, 1.05, 0.98)])
    assert "hardly better than knowing how frequent each class is" in " ".join(
        undertow("doctor", "run").out.split()
    )


def test_how_long_the_sequences_are_that_were_read(undertow, healthy):
    uneven = watch(open_run(healthy("classify")), sequences=16)
    T, N = uneven.reading.batch.x.shape[:2]
    assert f"; read {N} sequences of up to {T} steps of " in doctor_view.about(uneven)
    even = watch(open_run(healthy("forecast")), sequences=2)
    assert "; read 2 sequences of 10 steps of " in doctor_view.about(even)


def test_a_lag_of_one_s_own(undertow, fresh):
    rows(fresh, FALLING)
    assert f"and the task asks for {LAG}" in " ".join(undertow("doctor", fresh).out.split())
    asked = undertow("doctor", fresh, "--lag", 40, "--sequences", 2).out
    assert "read 2 sequences of" in asked
    assert "and the task asks for 40" in " ".join(asked.split())
    assert "Nothing is wrong" in undertow("doctor", fresh, "--lag", 1).out


def test_the_input_may_be_another(undertow, healthy):
    result = undertow(
        "doctor", healthy("text"), "--input", "the lazy dog jumps over the fox", "--sequences", 1
    )
    assert "read 1 sequence of" in result.out and "of a text of your own" in result.out


# ---------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no such run folder"),
        (("run", "--output", "page.txt"), "--output page.txt: expected a name that ends in .html"),
        (("run", "--output", "no/page.html"), "--output no/page.html: there is no folder no"),
        (("run", "--output", "mine.html"), "--output mine.html: exists already; --overwrite replaces it"),
        (("run", "--input", "x"), "--input x: adding draws its own sequences"),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_code_2(undertow, fresh, arguments, message):
    Path("mine.html").write_text("mine")
    result = undertow("doctor", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not list(Path().glob("*/doctor.html"))
    assert Path("mine.html").read_text() == "mine"
    assert undertow("doctor", "run", "--output", "mine.html", "--overwrite").code == 0
    assert "undertow doctor" in Path("mine.html").read_text(encoding="utf-8")


def test_a_lag_below_one_is_refused(undertow, fresh):
    assert undertow("doctor", fresh, "--lag", 0).code == 2


def test_a_run_without_metrics_is_judged_by_its_network(undertow, fresh):
    (fresh / "metrics.jsonl").unlink()
    result = undertow("doctor", fresh)
    assert result.code == 0, result.err
    assert "Forget bias" in result.out
    assert "no steps and learning rates are known" in result.out


def test_a_run_that_was_never_evaluated_has_no_network_to_judge(undertow, fresh):
    (fresh / "model.safetensors").unlink()
    result = undertow("doctor", fresh)
    assert result.code == 2
    assert result.err.count("\n") == 1


# ---------------------------------------------------------------------------------------------- the page


class Text(HTMLParser):
    """What a page says, without its pictures and its style."""

    def __init__(self):
        super().__init__()
        self.said, self.silent = [], 0

    def handle_starttag(self, tag, attributes):
        self.silent += tag in ("svg", "style")

    def handle_endtag(self, tag):
        self.silent -= tag in ("svg", "style")

    def handle_data(self, data):
        if not self.silent:
            self.said.append(data)

    @staticmethod
    def of(path):
        parser = Text()
        parser.feed(path.read_text(encoding="utf-8"))
        return " ".join(" ".join(parser.said).split())


def test_every_check_has_its_words():
    assert set(doctor_view.IN_ORDER) == {check.__name__.replace("_", "-") for check in CHECKS}


def test_nothing_on_the_page_is_taken_for_markup(fresh):
    evil = '<script>alert("x")</script> & [bold]'
    chart = Chart(evil, evil, evil, np.arange(3.0), {evil: np.arange(3.0)}, marks={evil: 1.0})
    finding = Finding("clip", "problem", evil, (Evidence(evil, 1, evil, evil),), (Remedy(evil, evil),), chart)
    subject = doctor_view.subject(watch(open_run(fresh)))
    diagnosis = Diagnosis((finding, NotJudged("exploding", evil)))
    page = doctor_page.page(subject, diagnosis)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8
    console = Terminal(record=True, width=200)
    doctor_view.show(console, subject, diagnosis)
    assert evil in console.export_text()


def test_pictures_of_one_page_share_no_names(undertow, fresh):
    rows(fresh, [0.17, 0.169, 0.168, 0.1667])
    undertow("doctor", fresh)
    page = (fresh / "doctor.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 20
    targets = re.findall(r'(?:url\(|href=")#([^)"]+)', page)
    assert set(targets) <= set(ids)
    assert (
        page.count('<svg role="img" aria-label="') == 5
    )  # three findings, and gates and growth that are in order
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(undertow, fresh, browser, scheme):
    rows(fresh, [0.17, 0.169, 0.168, 0.1667])
    undertow("doctor", fresh)
    with opened(browser, fresh / "doctor.html", scheme, width=1000, height=900) as page:
        assert [heading.inner_text() for heading in page.get_by_role("heading", level=2).all()] == [
            "Forget bias", "Memory horizon", "Not learning",
            "What was measured", "Gates move", "Gradients do not explode",
        ]  # fmt: skip
        assert page.get_by_role("img").count() == 5
        assert page.get_by_role("article").count() == 3
        details = page.locator("details").first
        assert details.get_attribute("open") is None
        page.keyboard.press("Tab")  # to the link to what it follows from
        assert page.evaluate("document.activeElement.textContent") == "forget bias"
        details.locator("summary").press("Enter")
        assert details.get_by_role("heading", name="Units are alive").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", background))) > 3 * 128
        assert light == (scheme == "light")
        ink = page.evaluate("getComputedStyle(document.querySelector('svg .xtick text, svg text')).fill")
        assert (sum(map(int, re.findall(r"\d+", ink))) > 3 * 128) == (scheme == "dark")
        verdict, problem, healthy = (
            page.locator(of).first.evaluate("e => getComputedStyle(e).color")
            for of in (".problem.verdict", ".problem .severity", ".healthy.severity")
        )
        assert verdict == problem != healthy


def test_the_page_on_a_telephone(undertow, fresh, browser):
    rows(fresh, [0.17, 0.169, 0.168, 0.1667])
    undertow("doctor", fresh)
    with opened(browser, fresh / "doctor.html", width=360, height=700) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_copied_page_needs_nothing_else(undertow, fresh, tmp_path):
    undertow("doctor", fresh)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(fresh / "doctor.html", alone / "doctor.html")
    assert "src=" not in (alone / "doctor.html").read_text(encoding="utf-8")


def test_the_page_says_how_each_check_judges_where_its_link_leads(browser, undertow, fresh):
    assert undertow("doctor", fresh).code == 0
    with opened(browser, fresh / "doctor.html") as page:
        (link,) = page.locator("footer a").all()
        assert (
            not page.get_by_text("its threshold and why", exact=False)
            .locator("xpath=..")
            .evaluate("e => e.open")
        )
        link.click()
        shown = page.locator("details", has_text="How each check judges")
        page.wait_for_function("document.getElementById('grounds').closest('details').open")
        titles = shown.locator("h3").all_inner_texts()
        assert titles == [doctor_view.title(check.__name__.replace("_", "-")) for check in CHECKS]
        for check in CHECKS:
            assert len(check.__doc__.split()[0]) and check.__doc__.split()[0] in shown.inner_text()
