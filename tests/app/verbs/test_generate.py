"""The options of `undertow generate`, at the command line."""

import pytest

from inputs import TEXT


def test_stops_end_the_text_and_filters_make_it_sure(undertow, text):
    assert undertow("train", text, *TEXT, "--epochs", 12, "--lr", 0.02, "--folder", "r").code == 0
    rhyme = "the quick brown fox jumps over the lazy dog.\n"
    for options in (["--temperature", 0], ["--top-k", 1], ["--top-p", 1e-6], ["--min-p", 1]):
        said = undertow("generate", "r", "--prompt", "the quick", "--length", 36, *options)
        assert said.out == f"{rhyme}\n", options
    greedy = ("generate", "r", "--prompt", "the quick", "--length", 90, "--temperature", 0)
    assert undertow(*greedy, "--stop", "lazy ").out == "the quick brown fox jumps over the \n"
    assert undertow(*greedy, "--stop", "\nthe", "--stop", "dog").out == f"{rhyme[:-5]}\n"
    assert undertow(*greedy, "--stop", "quick").out == f"{rhyme}the \n"  # the prompt is no stop
    assert undertow(*greedy, "--stop", "gold").out.startswith(rhyme * 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top-k", 0], "--top-k 0: expected a whole number from 1"),
        (["--top-p", 0], "--top-p 0.0: expected a number above 0, to 1"),
        (["--min-p", 2], "--min-p 2.0: expected a number from 0 to 1"),
        (["--stop", ""], "--stop: expected a value, got an empty one"),
        (["--temperature", -1], "--temperature -1.0: expected a number from 0 to 1,000,000"),
    ],
    ids=str,
)
def test_options_out_of_range_are_one_line(undertow, options, said):
    refused = undertow("generate", "no-run", *options)
    assert (refused.code, refused.out, refused.err) == (2, "", f"undertow: {said}\n")


def test_a_stop_that_the_model_cannot_write_is_refused(undertow, text):
    undertow("train", text, *TEXT, "--epochs", 1, "--folder", "r")
    refused = undertow("generate", "r", "--stop", "END")
    assert refused.code == 2
    assert refused.err.startswith(
        "undertow: --stop: not in the text that the model learnt: 'E' (1 time, from position 1), 'N'"
    )


@pytest.mark.parametrize("symbols", [" ", "", "\n"])
def test_a_text_without_a_prompt_begins_with_what_the_model_knows(undertow, tmp_path, symbols):
    (tmp_path / "a.txt").write_text(symbols.join(["ab", "ba", "aab"]) * 90)
    assert undertow("train", "a.txt", *TEXT, "--epochs", 1, "--folder", "r").code == 0
    said = undertow("generate", "r", "--length", 5)
    assert (said.code, len(said.out)) == (0, 6), said.err
