"""Do the tests notice a wrong program? Mutants of the package, each run against the tests of its room.

Cosmic Ray finds the mutants (another operator, number, comparison, loop bound) and writes them into a copy of
the package. This script draws a seeded sample, gives each process a copy of its own and prints what survived.
A larger scale with the same seed adds mutants to those of a smaller one. The test files that name the mutated
module most often run first.

A mutant that runs for ever is ended by a limit on processor time, which a busy machine does not reach. One
that waits for ever is ended by the clock, much later. Both are printed for people to judge.

    python tools/mutants.py flow runs --seed 1 --scale 0.5 --jobs 1
"""

import argparse
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

ROOT = Path(__file__).parents[1]
SKIPPED = ("core/NoOp", "core/ReplaceBinaryOperator_BitOr")  # the program itself; `A | B` of types


@dataclass(frozen=True)
class Room:
    """What is mutated (below src/undertow), its tests (below tests) and how many mutants to draw."""

    sources: str
    tests: str
    share: int


@dataclass(frozen=True)
class Needed:
    """Seconds that the tests of a room take without a mutant."""

    clock: float
    processor: float


ROOMS = {
    "flow": Room("flow", "flow", 60),
    "nn": Room("nn", "nn", 30),
    "kernels": Room("kernels", "kernels nn/test_drop_in.py tracing", 20),
    "runs": Room("app/runs", "app/runs app/test_bad_input.py", 40),
    "training": Room("app/training app/loop.py", "app/training app/test_loop.py app/data", 20),
}


def copy_of_the_package(folder: Path) -> Path:
    """A copy of the package with the compiled kernels beside it; its path goes into PYTHONPATH."""
    package = folder / "undertow"
    shutil.copytree(ROOT / "src" / "undertow", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    compiled = find_spec("undertow.kernels._native")
    if compiled is None or compiled.origin is None:
        sys.exit("mutants: the kernels have not been built: make test builds them")
    shutil.copy(compiled.origin, package / "kernels")
    return folder


def command(room: Room, module: str = "") -> list[str]:
    """The tests of a room, up to the first that fails; the files that name ``module`` most often first."""
    files = files_of(room.tests, ROOT / "tests", "test_*.py")
    name = re.compile(rf"\b{module or '$^'}\b")
    files.sort(key=lambda f: (f.stem != f"test_{module}", -len(name.findall(f.read_text()))))
    return [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *map(str, files)]


def files_of(parts: str, below: Path, pattern: str) -> list[Path]:
    """The files that ``parts`` names, and those of its folders that fit ``pattern``."""
    paths = [below / part for part in parts.split()]
    return sorted(file for path in paths for file in ([path] if path.is_file() else path.rglob(pattern)))


def mutants(room: Room, seed: int, count: int) -> list[MutationSpec]:
    """``count`` places drawn at random and one mutant of each, since an operator alone has up to eleven."""
    sources = files_of(room.sources, ROOT / "src" / "undertow", "*.py")
    with tempfile.TemporaryDirectory() as folder, use_db(f"{folder}/db", WorkDB.Mode.create) as db:
        init(sources, db, {})
        found = [m for item in db.work_items for m in item.mutations]
    places: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = {}
    for m in sorted(found, key=lambda m: (str(m.module_path), m.start_pos, m.operator_name, m.occurrence)):
        if not m.operator_name.startswith(SKIPPED):
            places.setdefault((str(m.module_path), m.start_pos), []).append(m)
    rng, order = random.Random(seed), sorted(places)
    rng.shuffle(order)
    return [rng.choice(places[place]) for place in order[:count]]


def begin(folder: str) -> None:
    """A process of the pool takes a copy of the package; the tests that it starts import that one."""
    own = copy_of_the_package(Path(tempfile.mkdtemp(dir=folder)))
    os.environ["PYTHONPATH"] = str(own)
    os.environ["OMP_NUM_THREADS"] = "1"


def judge(mutant: MutationSpec, room: Room, needed: Needed) -> WorkResult:
    """The tests' verdict on one mutant, which stands in this process's copy meanwhile."""
    original = Path(mutant.module_path).relative_to(ROOT / "src")
    here = MutationSpec(
        module_path=Path(os.environ["PYTHONPATH"]) / original,
        operator_name=mutant.operator_name,
        occurrence=mutant.occurrence,
        start_pos=mutant.start_pos,
        end_pos=mutant.end_pos,
        operator_args=mutant.operator_args,
    )
    module = original.parent.name if original.stem == "__init__" else original.stem
    tests = shlex.join(command(room, module))
    # 152: SIGXCPU, of a process that reached the limit. "timeout" is what Cosmic Ray says of the clock, too.
    limit = round(60 + 4 * needed.processor)
    limited = f"ulimit -S -t {limit}; {tests}; r=$?; [ $r = 152 ] && printf timeout; exit $r"
    return mutate_and_test([here], f"sh -c {shlex.quote(limited)}", 600 + 10 * needed.clock)


def needed_unchanged(room: Room) -> Needed:
    """What the tests of a room take on the program itself, which they must pass."""
    start, before, tests = time.monotonic(), processor_time(), command(room)
    if subprocess.run(tests, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"mutants: the tests fail without a mutant: {shlex.join(tests)}")
    return Needed(time.monotonic() - start, processor_time() - before)


def processor_time() -> float:
    """Seconds, of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def examine(name: str, pool: ProcessPoolExecutor, seed: int, scale: float) -> None:
    """Runs a room's sample and prints each mutant that survives or runs out of time, then the room's line."""
    room, found = ROOMS[name], Counter[str]()
    needed = pool.submit(needed_unchanged, room).result()
    print(f"{name}: the tests take {needed.clock:.0f} s, {needed.processor:.0f} s of a processor", flush=True)
    chosen = mutants(room, seed, round(scale * room.share))
    results = pool.map(judge, chosen, repeat(room), repeat(needed))
    for mutant, result in zip(chosen, results, strict=True):
        verdict = verdict_of(result)
        if verdict == "unknown":
            sys.exit(f"mutants: {mutant.operator_name} in {mutant.module_path}: {result.output}")
        found[verdict] += 1
        if verdict != "killed":
            print(f"{verdict}: {changed_lines(result.diff or '')}\n", flush=True)
    told = ", ".join(f"{found[verdict]} {verdict}" for verdict in ("killed", "out of time", "survived"))
    print(f"{name}: {len(chosen)} mutants, {told}\n", flush=True)


def verdict_of(result: WorkResult) -> str:
    if result.test_outcome == TestOutcome.SURVIVED:
        return "survived"
    if result.test_outcome != TestOutcome.KILLED:
        return "unknown"
    return "out of time" if (result.output or "").endswith("timeout") else "killed"


def changed_lines(diff: str) -> str:
    """The file and the lines of a diff without its context."""
    lines = [line for line in diff.splitlines() if line[:1] in "+-@"]
    where = next(line for line in lines if line.startswith("+++")).partition("/undertow/")[2]
    return "\n".join([f"src/undertow/{where}", *lines[3:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", default=[], help=f"of {', '.join(ROOMS)}; all without")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other mutants")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times each room's share")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    given = parser.parse_args()
    unknown = set(given.rooms) - set(ROOMS)
    if unknown:
        parser.error(f"rooms must be of {', '.join(ROOMS)}, got {', '.join(sorted(unknown))}")
    start = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(given.jobs, mp_context=spawn, initializer=begin, initargs=(folder,)) as pool,
    ):
        for name in given.rooms or ROOMS:
            examine(name, pool, given.seed, given.scale)
    print(f"{time.monotonic() - start:.0f} s, seed {given.seed}")


if __name__ == "__main__":
    main()
