"""Lines of separated values, before Polars reads them."""

from undertow.app.data.files import lines


def test_a_field_may_be_longer_than_the_limit_of_csv():
    long = "x" * 200_000
    assert lines.fields(f"{long},1", ",") == [long, "1"]
    assert lines.record([f'"{long}', 'more",1'], ",") == ([f"{long}\nmore", "1"], 2)


def test_a_nul_is_no_error():
    """Python 3.10 raises csv.Error."""
    assert lines.fields("a\0b,1", ",") == ["a\ufffdb", "1"]
    assert lines.record(["a\0b,1"], ",") == (["a\ufffdb", "1"], 1)
