"""The public functions of the report and of reading say what they take, give and raise."""

import inspect

import pytest

from undertow import report
from undertow.app.reading import answers, doctor_page, doctor_view, predictions, watch
from undertow.report import figures, follows, inputs

FUNCTIONS = [
    report.network, report.sequence_of, report.write, figures.figures, figures.row_names, follows.follow,
    follows.features_of, inputs.input_rows, watch.watch, watch.read, watch.observe, watch.source,
    answers.answer, predictions.forecasts, predictions.labels, predictions.is_training_table,
    doctor_view.show, doctor_page.write,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_argument_and_result_is_explained(function):
    text = inspect.getdoc(function)
    signature = inspect.signature(function)
    arguments = text.partition("Args:\n")[2].partition("\n\n")[0]
    assert all(f"    {name}: " in arguments for name in signature.parameters)
    assert ("Returns:\n" in text) == (signature.return_annotation not in (None, "None"))
