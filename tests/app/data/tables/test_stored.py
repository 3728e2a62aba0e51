"""Tables on disk: the same as in memory, bit for bit, whatever the size of the batches; or refused."""

import numpy as np
import polars as pl
import pytest
import torch

from undertow.app.data.files import batches, disk
from undertow.app.data.tables import stored
from undertow.app.data.tables.table import read_table
from undertow.app.data.tasks.forecast import ForecastTask
from undertow.app.data.tasks.inputs import opened
from undertow.app.data.tasks.windows import AHEAD
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.app.training.task_of import task_of
from undertow.kernels.native import read_cached


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(batches, "CELLS", 600)
    monkeypatch.setattr(stored, "TAIL", 10)


@pytest.fixture
def panel(tmp_path):
    rng = np.random.default_rng(0)
    rows = 200
    frame = pl.DataFrame(
        {
            "date": [f"2020-{1 + k // 28:02}-{1 + k % 28:02}" for k in range(rows)] * 3,
            "store": np.repeat(["north", "south", "west"], rows),
            "sales": (rng.normal(size=3 * rows).cumsum() + 100).round(3),
            "price": rng.integers(1, 9, 3 * rows),
            "rain": np.where(rng.random(3 * rows) < 0.8, 0.0, rng.random(3 * rows)).round(2),
            "weather": rng.choice(["dry", "wet", "snow"], 3 * rows),
            "note": [f"n{k}" for k in range(3 * rows)],
        }
    )
    path = tmp_path / "panel.csv"
    frame.write_csv(path)
    return path, frame


def task(path, cache=None, **options):
    given = {"target": ("sales",), "group": ("store",), "gaps": "ignore", "steps": 8, "horizon": 2}
    config = DataConfig(str(path), "forecast", **({"validation": 0.2, "cache": cache} | given | options))
    return ForecastTask(config, 16, 0)


def check_equal(found, expected):
    """The same features, batches and facts, but for the note that they are on disk."""
    whole = torch.zeros(1, dtype=torch.int64), len(expected.inputs.x)  # one window over all rows
    assert torch.equal(found.inputs.windows(*whole), expected.inputs.windows(*whole))
    for name in ("centre", "scale", "last"):
        assert torch.equal(getattr(found.inputs, name), getattr(expected.inputs, name))
    for name in ("train_batches", "validation_batches"):
        arguments = (1,) if name == "train_batches" else ()
        both = zip(getattr(found, name)(*arguments), getattr(expected, name)(*arguments), strict=True)
        for one, other in both:
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.y.nan_to_num(-1), other.y.nan_to_num(-1))
            assert (one.unit is None) == (other.unit is None)
            assert one.unit is None or torch.equal(one.unit, other.unit)
    assert found.facts.values == expected.facts.values
    assert found.facts.baselines == expected.facts.baselines
    assert [line for line in found.facts.lines if "on disk" not in line] == expected.facts.lines
    assert found.objective == expected.objective
    assert found.shape == expected.shape


@pytest.mark.parametrize("order", ["by series", "by time", "shuffled"])
@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_the_order_and_the_format_make_no_difference(panel, tmp_path, order, ending):
    path, frame = panel
    if order == "by time":
        frame = frame.sort("date", "store")
    if order == "shuffled":
        frame = frame.sample(fraction=1, shuffle=True, seed=1)
    path = tmp_path / f"other.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "arrow": frame.write_ipc}[ending](path)
    check_equal(task(path, str(tmp_path / "cache")), task(path))


@pytest.mark.parametrize(
    "options",
    [
        {"embed_group": True},
        {"simulate": True, "horizon": 1},
        {"head": "decoder", "known": ("price",)},
        {"target": ("sales", "price")},
        {"group": (), "target": ("sales",), "duplicates": "last"},
        {"steps": 0},
        {"before": 1.59e15},
    ],
)
def test_options_make_no_difference(panel, tmp_path, options):
    path, _ = panel
    check_equal(task(path, str(tmp_path / "cache"), **options), task(path, **options))


@pytest.mark.parametrize("gaps", ["split", "ignore", "error"])
def test_missing_values_make_no_difference(panel, tmp_path, gaps):
    path, frame = panel
    place = pl.int_range(pl.len())
    frame = frame.with_columns(
        pl.when(place < 5).then(None).otherwise(pl.col("rain")).alias("rain"),
        pl.when((place == 150) & (gaps == "split")).then(None).otherwise(pl.col("price")).alias("price"),
    ).with_columns(date=pl.date(2020, 1, 1).dt.offset_by(pl.format("{}d", place.over("store"))))
    frame.write_csv(path)
    check_equal(task(path, str(tmp_path / "cache"), gaps=gaps), task(path, gaps=gaps))


def test_messy_tables_make_no_difference(tmp_path):
    path = tmp_path / "messy.csv"
    lines = ["# made by hand", ";date;level;share;flag;kind", ";;m;%;;"]
    for k in range(400):
        level = "-" if k == 390 else f"{k % 7},5"
        lines.append(
            f"{k};{1 + k % 28:02}.{1 + k // 28 % 12:02}.{2000 + k // 336};{level};{k % 9}%;{k % 2 == 0};a{k}"
        )
    lines.append("Total;;;;;")
    path.write_text("\r\n".join(lines) + "\r\n")
    options = {"target": ("level",), "group": (), "gaps": "split", "horizon": 1}
    check_equal(task(path, str(tmp_path / "cache"), **options), task(path, **options))


def test_several_files_and_partitions_make_no_difference(panel, tmp_path):
    _, frame = panel
    for folder, name in (("files", "{}.csv"), ("parts", "store={}/part.parquet")):
        for (store,), part in frame.group_by("store", maintain_order=True):
            path = tmp_path / folder / name.format(store)
            path.parent.mkdir(parents=True, exist_ok=True)
            part.drop("store").write_csv(path) if folder == "files" else part.drop("store").write_parquet(
                path
            )
    for folder, group in (("files", ()), ("parts", ("store",))):
        path = tmp_path / folder
        check_equal(task(path, str(tmp_path / "cache"), group=group), task(path, group=group))


def test_integers_that_become_fractions_later(tmp_path):
    path = tmp_path / "late.csv"
    rows = [f"{k},{k % 5},{k % 4 if k < 500 else 0.5}" for k in range(600)]
    path.write_text("\n".join(["t,level,other", *rows]) + "\n")
    options = {"target": ("level",), "group": ()}
    check_equal(task(path, str(tmp_path / "cache"), **options), task(path, **options))


def test_what_the_rows_do_not_read_alike_is_refused(tmp_path):
    path = tmp_path / "late.csv"
    rows = [f"{k},{k % 5},{'0.5' if k < 500 else '1,020'!r}".replace("'", '"') for k in range(600)]
    path.write_text("\n".join(["t,level,other", *rows]) + "\n")
    with pytest.raises(UserError, match=r"column 'other', row \d+ and after: read as number, thousands ','"):
        task(path, str(tmp_path / "cache"), target=("level",), group=())


def test_a_word_among_numbers_is_named_with_its_row(tmp_path):
    path = tmp_path / "late.csv"
    rows = [f"{k},{k % 5},{'oops' if k == 555 else k}" for k in range(600)]
    path.write_text("\n".join(["t,level,other", *rows]) + "\n")
    with pytest.raises(UserError, match=r"column 'other', row 556: expected a number, got 'oops'"):
        task(path, str(tmp_path / "cache"), target=("level",), group=())


@pytest.mark.parametrize(("option", "value"), [("gaps", "fill"), ("gaps", "flag"), ("duplicates", "mean")])
def test_what_needs_the_whole_table_is_refused(panel, tmp_path, option, value):
    with pytest.raises(UserError, match=f"--{option} {value}: expected error"):
        task(panel[0], str(tmp_path / "cache"), **{option: value})


def test_kinds_that_are_read_as_a_whole_are_refused(tmp_path):
    path = tmp_path / "table.json"
    path.write_text('[{"a": 1}]')
    with pytest.raises(UserError, match=r"table\.json: json is read into memory as a whole"):
        task(path, str(tmp_path / "cache"))


def test_the_size_decides_without_the_option(panel, tmp_path, monkeypatch):
    path, _ = panel
    monkeypatch.setenv("TMPDIR", str(tmp_path / "large"))
    expected = task(path)
    assert isinstance(expected.inputs.x, torch.Tensor)
    size = path.stat().st_size
    monkeypatch.setattr(disk, "memory", lambda: disk.SPACE * size - 1)
    found = task(path)
    assert isinstance(found.inputs.x, disk.Rows)
    check_equal(found, expected)
    assert [each.name for each in (tmp_path / "large").rglob("*") if each.is_file()] == [disk.LOCK]


@pytest.mark.parametrize("order", [[5, 6, 7, 1, 2, 9, 0, 8, 4, 3], list(range(10)), list(range(9, -1, -1))])
def test_rows_in_a_file_stand_where_they_were_written(tmp_path, order):
    values = np.random.default_rng(0).random((10, 3), np.float32)
    rows = disk.Rows(tmp_path, (10, 3))
    rows.write(np.array(order[:6], np.int32), values[:6])
    rows.write(np.array(order[6:], np.int32), values[6:])
    whole = np.empty_like(values)
    whole[order] = values
    starts = np.array([6, 0, 3])
    np.testing.assert_array_equal(rows.read(starts, 4), [whole[6:10], whole[:4], whole[3:7]])
    with pytest.raises(OSError, match="ended early"):
        rows.read(np.array([7]), 4)
    assert not list(tmp_path.iterdir())


def test_windows_are_expected_some_batches_before_they_are_read(panel, tmp_path, monkeypatch):
    found, said, read = task(panel[0], str(tmp_path / "cache")), [], []
    monkeypatch.setattr(
        disk.Rows, "expect", lambda self, starts, steps, threads: said.append((starts, steps))
    )
    original = disk.Rows.read
    monkeypatch.setattr(
        disk.Rows, "read", lambda *given: read.append((given[1], len(said))) or original(*given)
    )
    monkeypatch.setattr("undertow.app.data.tasks.windows.MOST_KEPT", 0)
    for part in (found._train, found._late):
        said.clear()
        count = len(list(part.batches(20)))
        assert count > AHEAD
        assert [steps for _, steps in said] == [8] * count
        np.testing.assert_array_equal(np.concatenate([each for each, _ in said]), part.starts)
        batches = read[-count:]
        assert [early for _, early in batches] == [min(k + 1 + AHEAD, count) for k in range(count)]
        for (starts, _), (expected, _) in zip(batches, said, strict=True):
            np.testing.assert_array_equal(starts, expected)


def nothing_there(file, offsets, parts, missing, threads):
    missing[:] = True
    return len(missing)


def every_other(file, offsets, parts, missing, threads):
    read_cached(file, offsets, parts, missing, threads)
    parts[::2], missing[::2] = np.nan, True
    return missing.sum()


@pytest.mark.parametrize("cached", [nothing_there, every_other])
def test_the_other_process_reads_of_an_epoch_what_is_not_in_the_cache(panel, tmp_path, monkeypatch, cached):
    monkeypatch.setattr(disk, "read_cached", cached)
    monkeypatch.setattr("undertow.app.data.tasks.windows.MOST_KEPT", 0)
    found, expected = task(panel[0], str(tmp_path / "cache")), task(panel[0])
    assert not found._train._are_few()
    assert not found._late._are_few()
    monkeypatch.setattr("os.preadv", None)  # would fail here
    every = zip(found.train_batches(0), expected.train_batches(0), strict=True)
    assert all(torch.equal(one.x, other.x) for one, other in every)


def entries(folder):
    return sorted(each.name for each in folder.iterdir() if each.is_dir())


def test_the_names_of_series_are_held_as_categories(panel, tmp_path):
    path, frame = panel
    given = {"target": ("sales",), "group": ("store",), "gaps": "ignore", "cache": str(tmp_path / "cache")}
    config = DataConfig(str(path), "forecast", 0.2, 8, **given)
    with opened(path, config, None) as series:
        found = series.stored.select("price", "store", coded=("store", "price", "other"))
    assert found.schema == {"price": frame.schema["price"], "store": pl.Categorical()}
    assert found["store"].cast(pl.String).equals(frame["store"])
    assert series.table.schema["store"] == pl.Categorical()


def test_a_cache_is_made_once_for_the_same_files_and_options(panel, tmp_path, monkeypatch):
    path, frame = panel
    cache = tmp_path / "cache"
    task(path, str(cache))
    first = entries(cache)
    monkeypatch.setattr(stored, "batches", None)  # would fail
    check_equal(task(path, str(cache)), task(path))
    assert task(path, str(cache), steps=4, target=("price",)).starts.numel()  # other options, the same table
    assert entries(cache) == first
    monkeypatch.undo()
    monkeypatch.setattr(batches, "CELLS", 600)
    frame.with_columns(pl.col("sales") + 1).write_csv(path)
    check_equal(task(path, str(cache)), task(path))
    assert len(entries(cache)) == 1
    assert entries(cache) != first  # what was made of the file before it changed is gone


def test_what_a_killed_process_leaves_is_removed(panel, tmp_path, monkeypatch):
    path, _ = panel
    cache = tmp_path / "cache"
    monkeypatch.setattr(stored, "_rewrite", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task(path, str(cache))
    assert entries(cache) == []
    (cache / f"half{disk.PART}").mkdir()
    (cache / f"half{disk.PART}" / "000000.arrow").write_bytes(b"half")
    monkeypatch.undo()
    check_equal(task(path, str(cache)), task(path))
    assert len(entries(cache)) == 1


def test_a_file_that_changes_while_it_is_read_is_refused(panel, tmp_path, monkeypatch):
    path, frame = panel
    write = stored._rewrite

    def change(*arguments):
        write(*arguments)
        frame.head(100).write_csv(path)

    monkeypatch.setattr(stored, "_rewrite", change)
    with pytest.raises(UserError, match=r"panel\.csv: changed while it was read"):
        task(path, str(tmp_path / "cache"))
    assert entries(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        pl.exceptions.ComputeError("No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line(panel, tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(pl.DataFrame, "write_ipc", full)
    with pytest.raises(UserError, match=r"cache: the disk is full; --cache FOLDER keeps the data on another"):
        task(panel[0], str(tmp_path / "cache"))
    assert entries(tmp_path / "cache") == []


def test_what_is_read_as_a_whole_and_larger_than_memory_is_refused(panel, monkeypatch):
    path, _ = panel
    monkeypatch.setattr(disk, "memory", lambda: path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"panel\.csv: 0\.0 GiB are read into memory as a whole here"):
        read_table(path, DataConfig(str(path), "classify", 0.2, 0))


def test_the_heading_of_a_large_table_is_known_from_its_first_rows(panel, tmp_path, monkeypatch):
    path = tmp_path / "panel.parquet"
    panel[1].write_parquet(path)
    monkeypatch.setattr("undertow.app.data.tables.table.load", None)  # would read all of it
    given = {"target": ("sales",), "group": ("store",), "cache": str(tmp_path / "cache")}
    assert task_of(str(path), given)[0] == "forecast"
    with pytest.raises(UserError, match=r"panel\.parquet: no column 'seles' \(--target\)"):
        task_of(str(path), given | {"target": ("seles",)})


def test_another_system_than_glibc_trims_nothing(monkeypatch):
    monkeypatch.setattr(disk.ctypes, "CDLL", lambda name: object())
    disk.trim()
