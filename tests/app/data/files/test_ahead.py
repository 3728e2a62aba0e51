"""Parts of a file that another process reads ahead: the same bytes, whatever happens to that process."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from undertow.app.data.files import ahead, disk

PARTS, STEPS = 40, 4  # of a file of rows [PARTS,3]


@pytest.fixture
def values():
    return np.random.default_rng(0).random((PARTS, 3), np.float32)


@pytest.fixture
def rows(tmp_path, values):
    made = disk.Rows(tmp_path, values.shape)
    made.write(np.arange(PARTS), values)
    return made


@pytest.fixture
def read_here(monkeypatch):
    """Where this process itself read, in place of the other one."""
    offsets, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, into, at: offsets.append(at) or preadv(file, into, at))
    return offsets


def check_read(rows, values, starts):
    found = np.full((len(starts), STEPS, 3), np.nan, np.float32)
    rows.read(np.array(starts), found)
    np.testing.assert_array_equal(found, [values[k : k + STEPS] for k in starts])


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
    monkeypatch.setattr(ahead, "SLOT", STEPS * 3 * 4)
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


def test_the_process_is_not_in_reach_of_ctrl_c_and_ends_with_the_rows(tmp_path, values):
    rows = disk.Rows(tmp_path, values.shape)
    rows.write(np.arange(PARTS), values)
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
