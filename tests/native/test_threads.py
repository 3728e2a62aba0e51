"""The kernels' threads and the rest of the process: fork, concurrent callers, the GIL, idle cores."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from layer_case import Case, assert_same_bits
from undertow.kernels import native

# These fork or measure time, which a sanitizer upsets.
not_under_a_sanitizer = pytest.mark.sanitizer_conflict


@pytest.fixture(scope="module")
def case():
    """Large enough that several threads do take part."""
    return Case(T=60, N=24, C=16, H=64, dtype="float32")


def child_status(work, seconds=30):
    """Run ``work`` in a forked child: 0 if it returned, 1 if it raised, "hung" if it had to be killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


def call_of(way, case, monkeypatch, **options):
    """The kernel's call alone, without what the case does around it: a function that repeats it."""
    outputs, calls, kernel = case.forward(), [], getattr(native, way)
    with monkeypatch.context() as patch:
        patch.setattr(native, way, lambda *a, **k: calls.append((a, k)))
        case.backward(outputs, **options) if way == "backward" else case.forward(**options)
    ((arguments, keywords),) = calls
    return lambda: kernel(*arguments, **keywords)


@not_under_a_sanitizer
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_survives_fork(case):
    """As a data loader's workers need it: the child has none of the parent's threads, and starts its own."""
    expected = case.run(threads=2)

    def work():
        for _ in range(3):
            assert_same_bits(case.run(threads=2), expected)

    def child_and_grandchild():
        work()
        assert child_status(work) == 0

    assert child_status(child_and_grandchild) == 0
    work()  # and the parent's are still there


@not_under_a_sanitizer
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_survives_fork_in_the_middle_of_another_threads_call(case):
    expected, stop = case.run(), threading.Event()

    def keep_busy():
        while not stop.is_set():
            case.run(threads=2)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        found = [child_status(lambda: assert_same_bits(case.run(threads=2), expected)) for _ in range(5)]
    finally:
        stop.set()
        busy.join()
    assert found == [0] * 5


def test_concurrent_calls_give_the_same_bits_as_one_alone():
    cases = [Case(cell, 40, 12, 16, H, "float32") for cell in ("lstm", "rnn") for H in (48, 64)]
    expected = [case.run() for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, alone in zip(pool.map(lambda case: case.run(threads=3), cases), expected, strict=True):
                assert_same_bits(found, alone)


def test_teams_of_changing_size(case):
    """A thread that leaves the barrier late must not take the next team's size for its own."""
    expected = case.run(threads=1)
    for threads in (2, 5, 3, 2, 3, 5) * 20:
        assert_same_bits(case.run(threads=threads), expected)


@not_under_a_sanitizer
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_other_python_threads_run_during_a_call(way, monkeypatch):
    """The GIL is released: nothing but the kernel's call ever lets the other thread have it."""
    run = call_of(way, Case(T=20, N=4, C=8, H=16), monkeypatch)
    turn, seen = threading.Lock(), []

    def wait_for_a_turn():
        with turn:
            seen.append(True)

    turn.acquire()
    other = threading.Thread(target=wait_for_a_turn)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # seconds: Python itself takes the GIL from nobody meanwhile
    try:
        turn.release()
        for _ in range(1000):
            run()
            if seen:
                break
        assert seen
    finally:
        sys.setswitchinterval(interval)
        other.join()


def processor_time(tid):
    """Nanoseconds that a thread of this process has run; Linux makes a clock of its id."""
    return time.clock_gettime_ns((~tid << 3) | 6)


@not_under_a_sanitizer
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_every_thread_of_a_team_does_its_share(case, threads, way, monkeypatch):
    """In a forked child: it has no threads but its own and the team's, which do not spin as OpenMP's do."""
    run = call_of(way, case, monkeypatch, threads=threads)

    def count():
        run()  # the team is there from here on
        team = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        before = [processor_time(tid) for tid in team]
        for _ in range(20):
            run()
        spent = [processor_time(tid) - start for tid, start in zip(team, before, strict=True)]
        took_part = [each for each in spent if each > max(spent) / 4]
        assert len(took_part) == threads, spent

    assert child_status(count) == 0


@not_under_a_sanitizer
def test_no_core_is_held_between_calls(case):
    case.run(threads=2)
    time.sleep(0.05)  # more than long enough to fall asleep
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.02


def test_release_scratch_between_and_during_calls(case):
    expected = case.run(threads=2)
    native.release_scratch()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(lambda: [case.run(threads=2) for _ in range(5)])
        while not running.done():
            native.release_scratch()
            time.sleep(0.001)
    for found in running.result():
        assert_same_bits(found, expected)
