"""``undertow inspect``: a page for every task and cell, of the right input; errors that say what to do."""

import base64
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from inputs import CLASSIFY, FORECAST, TEXT, changed
from undertow.app.reading.watch import watch
from undertow.app.runs.folder import open_run

SHORT = ("--epochs", 1, "-q")
WAYS = {
    "text": TEXT,
    "forecast": FORECAST,
    "classify": (*CLASSIFY, "--readout", "last", "--no-bidirectional"),  # so the error is at the end alone
    "problem": ("--steps", 20, "--hidden-size", 8),
}


@pytest.fixture
def train(undertow, text, waves, walks):
    """``train("text", "lstm")`` -> the folder of its run."""
    sources = {"text": text, "forecast": waves, "classify": walks, "problem": "adding"}

    def run(task, cell="lstm", *options):
        folder = Path(f"{task}-{cell}")
        result = undertow(
            "train",
            sources[task],
            *changed(WAYS[task], SHORT[:2], options),
            "-q",
            "--cell",
            cell,
            "--folder",
            folder,
        )
        assert result.code == 0, result.err
        return folder

    return run


def data_of(page):
    content = page.read_text(encoding="utf-8")
    start = content.index('id="undertow-data">') + len('id="undertow-data">')
    return json.loads(content[start : content.index("</script>", start)])


@pytest.mark.parametrize("task", list(WAYS))
def test_both_cells_of_every_task_side_by_side(undertow, train, task):
    lstm, rnn = train(task), train(task, "rnn")
    result = undertow("inspect", lstm, "--compare", rnn)
    assert result.code == 0, result.err
    assert result.out == f"The report: {lstm}/report.html\n"
    data = data_of(lstm / "report.html")
    assert [network["name"] for network in data["networks"]] == ["LSTM", "plain RNN"]
    assert [network["cell"] for network in data["networks"]] == ["lstm", "rnn"]
    assert [network["onlyAtTheEnd"] for network in data["networks"]] == [task != "text"] * 2
    assert not any(layer["whyNot"] for network in data["networks"] for layer in network["layers"])
    if task == "text":
        assert data["T"] == 359  # of 360 held back, the last is only predicted
        assert data["targets"][:-1] == data["symbols"][1:]
        assert data["errorUnit"] == "bits"
    else:
        assert len(data["inputNames"]) > 0 and data["symbols"] is None


@pytest.mark.parametrize("task", list(WAYS))
def test_a_training_ends_by_saying_what_to_type_next(undertow, text, walks, waves, task):
    source = {"text": text, "forecast": waves, "classify": walks, "problem": "adding"}[task]
    said = undertow("train", source, *WAYS[task], *SHORT).out.split("Next:\n")[1].splitlines()
    assert said[-2:] == [f"  undertow {verb} runs/{Path(source).stem}-1" for verb in ("inspect", "doctor")]
    for line in said[-2:]:
        assert undertow(*line.split()[1:]).code == 0


def test_the_report_is_written_anew_and_another_file_only_when_told(undertow, train, tmp_path):
    run = train("problem")
    assert undertow("inspect", run).code == undertow("inspect", run).code == 0
    (tmp_path / "mine.html").write_text("mine")
    refused = undertow("inspect", run, "--output", "mine.html")
    assert (refused.code, refused.err) == (
        2,
        "undertow: --output mine.html: exists already; --overwrite replaces it\n",
    )
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert undertow("inspect", run, "--output", "mine.html", "--overwrite").code == 0
    assert data_of(tmp_path / "mine.html")["T"] == 20


def test_a_new_training_takes_the_old_report_away(undertow, train):
    run = train("problem")
    assert undertow("inspect", run).code == 0
    (run / "doctor.html").write_text("of the model before")
    train("problem", "lstm", "--overwrite")
    assert not (run / "report.html").exists()
    assert not (run / "doctor.html").exists()


def test_a_training_that_goes_on_takes_them_away_too(undertow, train):
    run = train("problem")
    for verb in ("inspect", "doctor"):
        assert undertow(verb, run).code == 0
    assert undertow("train", "--resume", run).code == 2  # finished already: nothing has changed
    assert (run / "report.html").exists() and (run / "doctor.html").exists()
    went_on = undertow("train", "--resume", run, "--epochs", 2)
    assert went_on.code == 0, went_on.err
    assert "Removed report.html and doctor.html, which showed the model of before" in went_on.out
    assert not (run / "report.html").exists() and not (run / "doctor.html").exists()


@pytest.mark.parametrize("verb", ["inspect", "doctor"])
def test_a_full_disk_is_one_line_and_leaves_the_older_page(undertow, train, small_files, verb):
    run = train("problem")
    assert undertow(verb, run).code == 0
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    with small_files:
        result = undertow(verb, run)
    page = run / {"inspect": "report.html", "doctor": "doctor.html"}[verb]
    assert (result.code, result.err) == (2, f"undertow: {page}: cannot be written: File too large\n")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == files


def test_a_text_of_one_s_own(undertow, train):
    run = train("text")
    assert undertow("inspect", run, "--input", "the lazy fox").code == 0
    data = data_of(run / "report.html")
    assert "".join(data["symbols"]) + data["targets"][-1] == "the lazy fox"


def test_steps_of_a_problem(undertow, train):
    run = train("problem")
    assert undertow("inspect", run, "--steps", 50).code == 0
    assert data_of(run / "report.html")["T"] == 50


def test_two_runs_of_one_cell_are_told_apart_by_name(undertow, train):
    run = train("problem")
    shutil.copytree(run, "again")
    assert undertow("inspect", run, "--compare", "again").code == 0
    names = [network["name"] for network in data_of(run / "report.html")["networks"]]
    assert names == ["LSTM problem-lstm", "LSTM again"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no such run folder"),
        (("problem-lstm", "--output", "page.txt"), "--output page.txt: expected a name that ends in .html"),
        (("problem-lstm", "--output", "no/page.html"), "--output no/page.html: there is no folder no"),
        (
            ("problem-lstm", "--output", "folder.html", "--overwrite"),
            "--output folder.html: expected a file, and it is a folder",
        ),
        (("problem-lstm", "--input", "x"), "--input x: adding draws its own sequences"),
        (("problem-lstm", "--compare", "nowhere"), "nowhere: no such run folder"),
        (
            ("problem-lstm", "--compare", "text-lstm"),
            "--compare text-lstm: cannot read what problem-lstm reads: other task: text, and not problem",
        ),
        (
            ("text-lstm", "--input", "Ärger"),
            "--input: not in the text that the model learnt: 'Ä' (1 time, from position 1)",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_code_2(undertow, train, arguments, message):
    train("problem")
    if "text-lstm" in arguments:
        train("text")
    Path("folder.html").mkdir()
    result = undertow("inspect", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not list(Path().glob("*/report.html"))


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(undertow, train, monkeypatch):
    run = train("problem")
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK or Path(path) != run)
    refused = undertow("inspect", run)
    assert refused.code == 2
    message = f"--output {run}/report.html: no permission to write into {run}"
    assert refused.err == f"undertow: {message}\n"
    assert not list(run.glob("*report.html*"))
    assert undertow("inspect", run, "--output", "elsewhere.html").code == 0


@pytest.mark.parametrize(
    ("name", "source", "options", "message"),
    [
        ("adding", "multiplication", ("--steps", 20), "other problem: multiplication, and not adding"),
        ("level", "waves", changed(FORECAST, ("--target", "depth")), "other target: depth, and not level"),
        ("way", "walks", changed(CLASSIFY, ("--label", "path")), "other label: path, and not way"),
    ],
)
def test_only_runs_that_answer_the_same_question_are_compared(
    undertow, waves, walks, name, source, options, message
):
    """Columns, classes and sizes are alike; what is asked for is not."""
    for table, old, new in ((waves, "level", "depth"), (walks, "way", "path")):
        table.write_text(twice(table.read_text().splitlines(), old, new))
    files = {"waves": waves, "walks": walks, "adding": "adding"}
    first = {"waves": FORECAST, "walks": CLASSIFY}.get(source, options)
    sources = {"first": files.get(source, name), "second": files.get(source, source)}
    for folder, given in (("first", first), ("second", options)):
        result = undertow("train", sources[folder], *given, "--folder", folder, *SHORT)
        assert result.code == 0, result.err
    refused = undertow("inspect", "first", "--compare", "second")
    assert (refused.code, refused.err) == (
        2,
        f"undertow: --compare second: cannot read what first reads: {message}\n",
    )


def twice(lines, column, name):
    """A table with a copy of ``column`` under another name."""
    at = lines[0].split(",").index(column)
    copies = [name, *(line.split(",")[at] for line in lines[1:])]
    return "".join(f"{line},{copy}\n" for line, copy in zip(lines, copies, strict=True))


@pytest.mark.parametrize(
    "problem", [("reber", 30), ("continual-reber", 20), ("copy-memory", 3), ("lag-noise-free", 6)]
)
def test_a_problem_with_a_target_at_every_step(undertow, problem):
    """E_t in bits, its mean the loss; nothing is said of the end alone; no step that is padding."""
    name, steps = problem
    options = ("--steps", steps, "--hidden-size", 8, "--folder", "run", *SHORT)
    assert undertow("train", name, *options).code == 0
    assert undertow("inspect", "run").code == 0
    data = data_of(Path("run/report.html"))
    (network,) = data["networks"]
    E = np.frombuffer(base64.b64decode(network["error"]["bytes"]), "<f4")
    seen = watch(open_run(Path("run")))
    assert np.isfinite(E).all() and len(E) == data["T"]
    assert data["errorUnit"] == "bits"
    assert E.mean() == pytest.approx(seen.loss / np.log(2), rel=1e-5)
    assert network["weight"] * E.sum() == pytest.approx(seen.loss, rel=1e-5)
    assert len(data["symbols"]) == len(data["targets"]) == data["T"] and data["inputs"] is None
    assert data["predictsNext"] == (name != "copy-memory")  # whose letters come only after the blanks
    read, wanted = "".join(data["symbols"]), "".join(data["targets"])
    if name == "copy-memory":
        assert (read[10:], wanted[:13]) == ("··!" + "·" * 10, "·" * 13) and read[:10] == wanted[13:]
    elif name == "lag-noise-free":
        assert data["symbols"][1:] == ["a1", "a2", "a3", "a4", "a5"] and data["targets"][-1] == read[0]
    else:
        assert read[0] == "B" and read[1] in "TP" and set(read) <= set("BTPSXVE")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "the mean of the errors at each step" in page
    assert "after the last step" not in page and "; it was" not in page and "rightly" not in page


def test_a_folder_named_like_a_problem_does_not_hide_it(undertow):
    """Such as the run of one: only a file of that name is meant before it."""
    options = ("adding", "--steps", 20, "--hidden-size", 8, *SHORT)
    for folder in ("adding", "again"):
        result = undertow("train", *options, "--folder", folder)
        assert result.code == 0, result.err


def test_a_problem_that_reads_symbols_shows_them_and_one_that_reads_values_those(undertow):
    for name, symbolic in (("temporal-order", True), ("adding-1997", False), ("two-sequence", False)):
        options = ("--steps", 20, "--hidden-size", 8, "--folder", name, *SHORT)
        assert undertow("train", name, *options).code == 0
        assert undertow("inspect", name).code == 0
        data = data_of(Path(name) / "report.html")
        if symbolic:
            assert (data["symbols"][0], data["symbols"][-1], data["targets"]) == ("E", "B", None)
            order = "".join(symbol for symbol in data["symbols"] if symbol in "XY")  # which is the answer
            page = (Path(name) / "report.html").read_text(encoding="utf-8")
            assert f"says {order}, rightly" in page or f"; it was {order}" in page
        else:
            assert data["inputNames"] == ["value", "marker"][: 1 + (name == "adding-1997")]


def test_classification_says_what_was_said_and_what_was_right(undertow, train):
    run = train("classify", "lstm", "--epochs", 30)
    assert undertow("inspect", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "says up, rightly" in page or "says down, rightly" in page
    refused = undertow("inspect", run, "--steps", 5)
    assert refused.code == 2 and "--steps 5: a labelled sequence is shown whole" in refused.err


def test_the_error_is_the_one_that_training_reports(undertow, train):
    """Mean of E_t over the page's steps, in bits: the cross-entropy of the model on that text."""
    run = train("text")
    assert undertow("inspect", run).code == 0
    data = data_of(run / "report.html")
    E = np.frombuffer(base64.b64decode(data["networks"][0]["error"]["bytes"]), "<f4")
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(row["validation"] for row in metrics)
    assert E.mean() == pytest.approx(best, rel=0.15)  # other lanes of the same part
