"""What config.json says of the data fits the network, entry by entry."""

from dataclasses import replace

import pytest

from undertow.app.errors import UserError
from undertow.app.runs import facts
from undertow.app.runs.config import DataConfig, ModelConfig

DAYS = {
    "numeric": ["wind", "level", "rain"],
    "categories": {"sky": ["clear", "cloud"]},
    "calendar": ["year"],
}  # C=7
TABLE = {"columns": DAYS, "time": "day", "reading": {}}
SERIES = {
    "group": [], "step": 1.0, "frequency": {}, "seasons": {"level": {"all": {"": 0.5}}}, "season": 1,
    "scales": {"y": {}}, "known": [], "series": [], "means": {"level": 1.0},
}  # fmt: skip

VALID = {  # facts, data, model
    "text": (
        {"symbols": "characters", "vocabulary": ["a", "b", "c"], "encoding": "utf-8"},
        DataConfig("book.txt", "text", 0.1, 4),
        ModelConfig("lstm", 8, 1, 0.0, 3, "every", symbols=3, width=2),
    ),
    "forecast": (
        TABLE | SERIES,
        DataConfig("days.csv", "forecast", 0.2, 4, horizon=2, target=("level",)),
        ModelConfig("lstm", 8, 1, 0.0, 2, "last", inputs=7, residual=(1,), autoregression=4),
    ),
    "classify": (
        TABLE | {"classes": ["down", "up"]},
        DataConfig("walks.csv", "classify", 0.2, 0, sequence="id", label="way"),
        ModelConfig("lstm", 8, 1, 0.0, 2, "last", inputs=7),
    ),
    "regress": (
        TABLE,
        DataConfig("walks.csv", "regress", 0.2, 0, sequence="id", label="drift"),
        ModelConfig("lstm", 8, 1, 0.0, 1, "last", inputs=7, quantity=True),
    ),
    "problem": (
        {},
        DataConfig("adding", "problem", 0.0, 8),
        ModelConfig("lstm", 8, 1, 0.0, 1, "last", inputs=2),
    ),
}

WRONG = [  # task, where, name, value, the entry that the message names
    ("text", "facts", "vocabulary", ["a", "b", "a"], "facts.vocabulary"),
    ("text", "facts", "vocabulary", ["c", "a", "b"], "facts.vocabulary"),
    ("text", "facts", "vocabulary", ["a", "bc", "d"], "facts.vocabulary"),
    ("text", "facts", "vocabulary", ["a", "b"], "model.symbols"),
    ("text", "facts", "symbols", "words", "facts.vocabulary"),
    ("text", "facts", "symbols", "bytes", "facts.vocabulary"),
    ("text", "facts", "symbols", "bpe", "facts.vocabulary"),
    ("text", "facts", "encoding", "utf-88", "facts.encoding"),
    ("text", "facts", "encoding", "base64", "facts.encoding"),
    ("text", "data", "symbols", "words", "facts.symbols"),
    ("text", "model", "symbols", 4, "model.symbols"),
    ("text", "model", "width", 0, "model.symbols"),
    ("text", "model", "inputs", 2, "model.symbols"),
    ("text", "model", "outputs", 4, "model.outputs"),
    ("text", "model", "readout", "last", "model.readout"),
    ("text", "model", "residual", (0,), "model.residual"),
    ("text", "data", "steps", 0, "data.steps"),
    ("text", "model", "init", "chrono", "model.max_lag"),
    ("text", "model", "max_lag", 9, "model.max_lag"),
    ("text", "model", "bidirectional", True, "model.bidirectional"),
    ("classify", "model", "quantity", True, "model.quantity"),
    ("problem", "model", "panel", True, "model.panel"),
    ("problem", "model", "autoregression", 8, "model.autoregression"),
    ("regress", "model", "ahead", 2, "model.ahead"),
    ("text", "model", "known", (0,), "model.known"),
    ("classify", "model", "series", 2, "model.series"),
    ("text", "data", "validation", 0.0, "data.validation"),
    ("forecast", "data", "target", ("sky",), "data.target"),
    ("forecast", "model", "autoregression", 3, "model.autoregression"),
    ("forecast", "model", "residual", (0,), "model.residual"),
    ("forecast", "model", "residual", (2,), "model.residual"),
    ("forecast", "model", "outputs", 3, "model.outputs"),
    ("forecast", "data", "steps", 0, "data.steps"),
    ("forecast", "facts", "seasons", {"level": {"all": {"1": 0.5}}}, "facts.seasons"),
    ("forecast", "facts", "columns", DAYS | {"numeric": ["level", "level"]}, "facts.columns"),
    ("forecast", "facts", "columns", DAYS | {"categories": {"sky": []}}, "facts.columns"),
    ("forecast", "facts", "columns", DAYS | {"calendar": ["moon"]}, "facts.columns.calendar"),
    ("forecast", "facts", "time", None, "facts.columns.calendar"),
    ("forecast", "model", "inputs", 5, "model.inputs"),
    ("forecast", "model", "symbols", 3, "model.inputs"),
    ("forecast", "model", "readout", "every", "model.readout"),
    ("forecast", "data", "validation", 0.0, "data.validation"),
    ("classify", "data", "sequence", None, "data.sequence"),
    ("classify", "data", "label", None, "data.sequence"),
    ("classify", "facts", "classes", ["up", "down"], "facts.classes"),
    ("classify", "facts", "classes", ["up"], "facts.classes"),
    ("classify", "facts", "classes", ["up", "up"], "facts.classes"),
    ("classify", "model", "outputs", 3, "facts.classes"),
    ("classify", "model", "residual", (0,), "model.residual"),
    ("regress", "data", "per", "step", "model.readout"),
    ("regress", "data", "label", None, "data.sequence"),
    ("regress", "model", "outputs", 2, "model.outputs"),
    ("regress", "model", "quantity", False, "model.quantity"),
    ("problem", "data", "source", "subtracting", "data.source"),
    ("problem", "model", "inputs", 3, "model.inputs"),
    ("problem", "model", "symbols", 3, "model.inputs"),
    ("problem", "model", "outputs", 2, "model.outputs"),
    ("problem", "model", "readout", "every", "model.readout"),
    ("problem", "model", "residual", (0,), "model.residual"),
    ("problem", "data", "steps", 0, "data.steps"),
]


@pytest.mark.parametrize("task", VALID)
def test_facts_that_fit_are_taken(task):
    facts.check(*VALID[task], "config.json")


def test_a_text_of_bytes_has_256_symbols():
    _, data, model = VALID["text"]
    found = {"symbols": "bytes", "vocabulary": [], "encoding": "latin-1"}
    facts.check(found, data, replace(model, symbols=256, outputs=256), "config.json")


@pytest.mark.parametrize(("task", "where", "name", "value", "named"), WRONG)
def test_the_entry_that_does_not_fit_is_named(task, where, name, value, named):
    found, data, model = VALID[task]
    if where == "facts":
        found = found | {name: value}
    elif where == "data":
        data = replace(data, **{name: value})
    else:
        model = replace(model, **{name: value})
    with pytest.raises(UserError, match=rf"^config\.json: damaged: {named} and the other entries"):
        facts.check(found, data, model, "config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vocabulary": 5}, "Expected `array`, got `int`"),
        ({"vocabulary": ["a", 5]}, "Expected `str`, got `int`"),
        ({"symbols": "letters"}, "Invalid enum value 'letters'"),
        ({"more": [1.0, {"x": float("nan")}]}, "a number is not finite"),
        ({"more": float("inf")}, "a number is not finite"),
    ],
)
def test_types_and_numbers_of_facts_are_checked(change, said):
    found, data, model = VALID["text"]
    with pytest.raises(UserError, match=f"damaged: {said}".replace("|", r"\|")):
        facts.check(found | change, data, model, "config.json")


def test_width_counts_a_feature_for_each_word_and_two_for_each_cycle():
    columns = facts.Columns(["a", "b"], {"sky": ["clear", "cloud", "rain"]}, ["year", "week"], ["a"], ["id"])
    assert columns.width == 2 + 3 + 2 * 2 + 1
    assert columns.describe() == (
        "10 features: a, b, sky (3 words), time of year, time of week, a missing; not used: id"
    )


def test_a_number_in_quotes_is_no_number():
    _, data, model = VALID["forecast"]
    with pytest.raises(UserError, match="damaged: Expected `float`, got `str`"):
        facts.check(TABLE | SERIES | {"step": "1.0"}, data, model, "config.json")
