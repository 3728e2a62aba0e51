"""What a thread that must not wait needs: no memory, no lock, no system call. Other threads go on."""

import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from undertow.networks import Dense, Network, Recurrent
from undertow.stream import Stream

LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
linux = pytest.mark.skipif(not LINUX, reason="the numbers of system calls are those of Linux on x86-64")
LIBC = ("glibc" in os.confstr("CS_GNU_LIBC_VERSION")) if "CS_GNU_LIBC_VERSION" in os.confstr_names else False
COMPILER = os.environ.get("CC", "cc")

MADE = """
import ctypes, gc, os, sys
import numpy as np
from undertow.networks import Dense, Network, Recurrent
from undertow.stream import Stream
rng = np.random.default_rng(0)
draw = lambda *shape: rng.uniform(-0.3, 0.3, shape)
lstm = Recurrent("lstm", draw(64, 1), draw(64, 16), draw(64))
norms = dict(gain_x=draw(64), gain_h=draw(64), gain_c=draw(16), bias_c=draw(16))
normed = Recurrent("lstm", draw(64, 16), draw(64, 16), draw(64), **norms)
stream = Stream(Network((lstm, normed, Dense(draw(1, 16), draw(1), "tanh"))))
x, out = np.ones((64, 1), np.float32), np.zeros((64, 1), np.float32)
one, made = np.ones(1, np.float32), np.zeros(1, np.float32)
bound, many = stream.bind(one, made), stream.streams(4)
xs, outs = np.ones((20, 4, 1), np.float32), np.zeros((20, 4, 1), np.float32)
def use(times):
    for _ in range(times):
        stream.process(x, out)
        stream.step(one, made)
        bound()
        many.process(xs, outs)
        stream.reset()
use(3)
gc.disable()
"""

STRICT = (
    MADE
    + """
libc = ctypes.CDLL(None, use_errno=True)
end = libc.syscall
end(39)  # getpid: everything that a call needs is loaded
if libc.prctl(22, 1, 0, 0, 0):  # PR_SET_SECCOMP, strict: calls but read, write, exit kill
    os._exit(77)
use(200)
end(60, 0)  # exit
"""
)

COUNTED = (
    MADE
    + """
library = ctypes.CDLL(None)
memory, locks = (ctypes.c_long.in_dll(library, name) for name in ("counted_memory", "counted_locks"))
assert memory.value > 1000, "the library was not preloaded"
def counts(times):
    before = memory.value, locks.value
    use(times)
    return memory.value - before[0], locks.value - before[1]
counts(3)
print(counts(1), counts(500))
before = memory.value
held = [bytearray(100_000) for _ in range(5)]
assert memory.value >= before + 5, "the counter does not count"
"""
)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    given = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environment
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=600, check=False)


@linux
def test_no_system_call_is_made() -> None:
    done = run(STRICT)
    if done.returncode == 77:
        pytest.skip("this machine does not allow seccomp")
    assert done.returncode == 0, f"killed by signal {-done.returncode}: {done.stderr}"


@linux
def test_a_system_call_would_be_noticed() -> None:
    done = run(STRICT.replace("use(200)", "use(200); os.getppid()"))
    assert done.returncode in (-9, 77)


@pytest.mark.skipif(not LIBC, reason="the counting library stands on glibc's names")
@pytest.mark.skipif(not shutil.which(COMPILER), reason=f"no C compiler {COMPILER} for the counting library")
def test_nothing_is_allocated_and_no_lock_taken(tmp_path: Path) -> None:
    library = tmp_path / "counted.so"
    source = Path(__file__).parent / "counted.c"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    done = run(COUNTED, LD_PRELOAD=str(library))
    assert done.returncode == 0, done.stderr
    few, many = done.stdout.splitlines()[0].split(") (")
    assert few.strip("()") == many.strip("()"), "the counts grow with the calls"


def network(H: int) -> Network:
    rng = np.random.default_rng(0)
    return Network(
        (
            Recurrent(
                "lstm", *(rng.uniform(-0.3, 0.3, shape) for shape in ((4 * H, 1), (4 * H, H), (4 * H,)))
            ),
            Dense(rng.uniform(-0.3, 0.3, (1, H)), np.zeros(1)),
        )
    )


def test_other_threads_run_while_a_block_is_processed() -> None:
    stream, x = Stream(network(64)), np.ones((20_000, 1), np.float32)
    counted, done, started = [0], threading.Event(), threading.Event()

    def count() -> None:
        started.set()
        while not done.is_set():
            counted[0] += 1
            time.sleep(0)  # gives way; the main thread waits for that

    thread = threading.Thread(target=count)
    thread.start()
    started.wait()
    out = np.empty_like(x)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread that holds the interpreter keeps it: only the stream gives way
    try:
        before = counted[0]
        stream.run(x, out)
        after = counted[0]
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert after > before


def test_several_threads_run_streams_of_one_network_at_once() -> None:
    whole, x = Stream(network(40)), np.random.default_rng(1).standard_normal((3000, 1)).astype(np.float32)
    expected = whole.process(x)
    found: list[np.ndarray | None] = [None] * 4

    def work(k: int) -> None:
        stream = whole.streams()
        found[k] = np.concatenate([stream.process(x[t : t + 500]) for t in range(0, len(x), 500)])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found:
        np.testing.assert_array_equal(y, expected)


def test_a_stream_that_is_in_use_is_refused_to_another_thread() -> None:
    stream, x = Stream(network(64)), np.ones((20_000, 1), np.float32)
    refused, stop = [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                stream.process(x[:1])
            except RuntimeError as error:
                refused.append(str(error))
                stop.set()

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(200):
        if stop.is_set():
            break
        try:
            stream.process(x)
        except RuntimeError as error:  # the other one was first
            refused.append(str(error))
            break
    stop.set()
    thread.join()
    assert refused and "in use by another thread" in refused[0], "two threads used one stream at once"
