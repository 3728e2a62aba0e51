"""Windows in a file: the same bytes from the system's cache and from a process, whatever happens to that."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from undertow.app.data.files import ahead, disk
from undertow.kernels.native import read_cached

PARTS, STEPS = 40, 4  # of a file of rows [PARTS,3]


@pytest.fixture
def values():
    return np.random.default_rng(0).random((PARTS, 3), np.float32)


def written(folder, values):
    made = disk.Rows(folder, values.shape)
    made.write(np.arange(PARTS), values)
    return made


def none_is_there(file, offsets, parts, missing, threads):
    """As where nothing is in the system's cache, or it cannot tell."""
    missing[:] = True
    return len(missing)


@pytest.fixture
def cached(tmp_path, values):
    return written(tmp_path, values)


@pytest.fixture
def rows(tmp_path, values, monkeypatch):
    """Nothing of them is in the system's cache."""
    monkeypatch.setattr(disk, "read_cached", none_is_there)
    return written(tmp_path, values)


@pytest.fixture
def read_here(monkeypatch):
    """Where this process itself read, in place of the other one."""
    offsets, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, into, at: offsets.append(at) or preadv(file, into, at))
    return offsets


def check_read(rows, values, starts):
    found = rows.read(np.array(starts, np.int64), STEPS, 2)
    expected = [values[k : k + STEPS] for k in starts]
    np.testing.assert_array_equal(found, np.reshape(expected, (len(starts), STEPS, 3)))


def ended(pid, deadline=60):
    """Whether a process ends."""
    began = time.monotonic()
    while time.monotonic() < began + deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def test_what_is_in_the_cache_is_read_without_the_other_process(cached, values, read_here, monkeypatch):
    count = []
    monkeypatch.setattr(disk, "read_cached", lambda *given: count.append(read_cached(*given)) or count[-1])
    cached.expect(np.array([0, 9, 36]), STEPS, 2)
    check_read(cached, values, [0, 9, 36])
    check_read(cached, values, [7, 8])  # not expected
    check_read(cached, values, [])
    if count == [0, 0, 0]:  # elsewhere the system cannot tell, or has given the cache to others
        assert cached._ahead._process is None
        assert not read_here


@pytest.mark.parametrize("missing", [[0], [1, 3], [3], [0, 1, 2, 3]])
def test_only_what_the_cache_lacks_is_read_by_the_other_process(
    cached, values, read_here, monkeypatch, missing
):
    def some_are_there(file, offsets, parts, late, threads):
        parts[:] = [values.ravel()[k // 4 :][: STEPS * 3] for k in offsets]
        late[:] = False
        late[missing], parts[missing] = True, np.nan
        return len(missing)

    monkeypatch.setattr(disk, "read_cached", some_are_there)
    asked, expect = [], cached._ahead.expect
    monkeypatch.setattr(cached._ahead, "expect", lambda *given: asked.append(given[0]) or expect(*given))
    starts = np.array([5, 9, 1, 36])
    cached.expect(starts, STEPS)
    cached.expect(starts[::-1], STEPS)
    check_read(cached, values, starts)
    check_read(cached, values, starts[::-1])
    assert not read_here
    np.testing.assert_array_equal(asked[0], starts[missing] * 12)
    check_read(cached, values, [0, 2, 4, 6])  # not expected
    assert len(read_here) == len(missing)


def test_a_cache_that_has_little_is_asked_now_and_then(rows, values, monkeypatch):
    asked = []
    monkeypatch.setattr(disk, "read_cached", lambda *given: asked.append(k) or none_is_there(*given))
    for k in range(2 * disk.RESTS + 3):
        rows.expect(np.array([k, 1]), STEPS)
        check_read(rows, values, [k, 1])
    assert asked == [0, disk.RESTS + 1, 2 * disk.RESTS + 2]


def test_windows_read_are_the_readers_own(cached, values):
    for _ in range(2):
        cached.expect(np.array([3]), STEPS)
    cached.read(np.array([3]), STEPS)[:] = 0
    check_read(cached, values, [3])


def test_what_is_expected_is_read_by_the_other_process(rows, values, read_here):
    every = [[k, (7 * k) % 36, 3] for k in range(3 * ahead.SLOTS)]  # more than there are slots
    for starts in every:
        rows.expect(np.array(starts), STEPS)
    for starts in every:
        check_read(rows, values, starts)
    assert not read_here


def test_expected_and_read_in_turn(rows, values, read_here):
    rows.expect(np.array([0, 1]), STEPS)
    for k in range(4 * ahead.SLOTS):  # the slots are used again and again
        rows.expect(np.array([k + 1, k + 2]), STEPS)
        check_read(rows, values, [k, k + 1])
    assert not read_here


def test_another_order_than_was_expected(rows, values, read_here):
    for starts in ([0, 1], [2, 3], [4, 5], [6]):
        rows.expect(np.array(starts), STEPS)
    check_read(rows, values, [9, 9])  # not expected: nothing of what is goes
    assert len(read_here) == 2
    check_read(rows, values, [4, 5])  # what was to come before goes
    assert len(read_here) == 2
    check_read(rows, values, [2, 3])
    assert len(read_here) == 4
    check_read(rows, values, [6])
    assert len(read_here) == 4


def test_as_many_parts_of_another_size_are_others(rows, values, read_here):
    rows.expect(np.array([5]), STEPS - 1)
    check_read(rows, values, [5])
    assert len(read_here) == 1


def test_parts_larger_than_the_memory_are_read_here(rows, values, read_here, monkeypatch):
    for module in (ahead, disk):
        monkeypatch.setattr(module, "SLOT", STEPS * 3 * 4)
    rows.expect(np.array([5, 6]), STEPS)
    check_read(rows, values, [5, 6])
    assert len(read_here) == 2


def test_what_cannot_be_read_is_an_error_here(rows, values, read_here):
    rows.expect(np.array([PARTS - 1]), STEPS)
    rows.expect(np.array([0]), STEPS)
    with pytest.raises(OSError, match="ended early"):
        check_read(rows, values, [PARTS - 1])
    read_here.clear()
    check_read(rows, values, [0])
    assert not read_here


@pytest.mark.parametrize("when", ["expected", "asked"])
def test_without_the_process_all_is_read_here(rows, values, read_here, when):
    rows.expect(np.array([0]), STEPS)
    check_read(rows, values, [0])
    process = rows._ahead._process
    process.send_signal(signal.SIGSTOP)
    if when == "asked":
        rows.expect(np.array([1]), STEPS)
    process.kill()
    process.wait()
    rows.expect(np.array([2]), STEPS)
    for start in range(3):
        check_read(rows, values, [start])
    assert len(read_here) == 3


def test_without_a_program_to_start_all_is_read_here(rows, values, read_here, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    rows.expect(np.array([0]), STEPS)
    check_read(rows, values, [0])
    assert len(read_here) == 1


def test_a_read_that_was_interrupted_leaves_no_wrong_answer(rows, values, read_here, monkeypatch):
    rows.expect(np.array([0]), STEPS)
    rows.expect(np.array([1]), STEPS)

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ahead.Ahead, "_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_read(rows, values, [0])
    monkeypatch.undo()
    check_read(rows, values, [1])
    check_read(rows, values, [0])


def test_the_process_is_not_in_reach_of_ctrl_c_and_ends_with_the_rows(tmp_path, values, monkeypatch):
    monkeypatch.setattr(disk, "read_cached", none_is_there)
    rows = written(tmp_path, values)
    rows.expect(np.array([0]), STEPS)
    process = rows._ahead._process
    assert os.getsid(process.pid) != os.getsid(0)
    del rows
    assert process.returncode == 0


PROGRAM = """
import os, sys
import numpy as np
from pathlib import Path
from undertow.app.data.files import disk
rows = disk.Rows(Path(sys.argv[1]), (9, 3))
rows._rests = 1
rows.expect(np.array([0]), 4)
print(rows._ahead._process.pid, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["killed", "ends"])
def test_the_process_ends_with_a_program(tmp_path, how):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0)
    assert not done.stderr
    assert ended(int(done.stdout))
