"""Networks in C compute what the stream and the float64 reference compute, whatever compiles them."""

import ctypes
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import reference
from made import both, norms
from undertow import networks
from undertow.networks import (
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Unsupported,
)
from undertow.stream import load

HERE = Path(__file__).parent
MORE = ("-Wshadow", "-Wconversion", "-Wdouble-promotion")
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", *MORE, "-Werror")
SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TOLERANCE = 1e-6
_random = np.random.default_rng(5)


def draw(bound: float, *shape: int) -> np.ndarray:
    return _random.uniform(-bound, bound, shape).astype(np.float32)


def layer(C: int, H: int, cell: str = "lstm", P: int = 0, **more: object) -> Recurrent:
    G, R, k = (4 if cell == "lstm" else 1), P or H, H**-0.5
    weights = draw(k, G * H, C), draw(k, G * H, R), draw(k, G * H)
    more |= {"weight_hr": draw(k, P, H)} if P else {}
    more |= {"c_0": draw(1, H)} if cell == "lstm" else {}
    return Recurrent(cell, *weights, h_0=draw(1, R), **more)


def head(I: int, out: int, activation: str = "", bound: float = 1) -> Dense:  # noqa: E741
    return Dense(draw(bound * I**-0.5, out, I), draw(0.3, out), activation)


def normed(H: int) -> dict[str, np.ndarray]:
    return {name: 0.3 * array + (name != "bias_c") * 0.5 for name, array in norms(H).items()}


def chain(*sizes: int) -> list[Recurrent]:
    return [layer(C, H) for C, H in itertools.pairwise(sizes)]


EVERYTHING = {"peepholes": draw(0.5, 3, 9), "coupled": True, "zoneout": (0.1, 0.3), **normed(9)}
RNNS = (
    layer(3, 1, "rnn"),
    layer(1, 13, "rnn", zoneout=(0.2, 0.0)),
    layer(13, 33, "rnn", nonlinearity="relu"),
)
OPTIONS = (
    layer(3, 5, peepholes=draw(0.5, 3, 5), coupled=True),
    layer(5, 13, zoneout=(0.1, 0.3)),
    layer(13, 16, P=3),
    layer(3, 4, **normed(4)),
    layer(4, 20, P=9, peepholes=draw(0.5, 3, 20)),
    layer(9, 9, P=4, **EVERYTHING),
)
TEXT = (Embedding(draw(1, 11, 6)), layer(6, 17), head(17, 11, "softmax"))
HEADS = (
    head(3, 20, "sigmoid", 2),
    head(20, 3, "tanh", 2),
    head(3, 8, "relu", 3),
    head(8, 7, "softmax", 4),
    head(7, 33),
    head(33, 2, "sigmoid"),
)
UNITS = (Normalise([1.0, -2.0, 0], [0.5, 3.0, 1e-4]), Scale([2.0, 0.5, 0.1], [0.1, 0.2, 0]))


def pooled(kind: str) -> Network:
    query = draw(2, 9) if kind == "attention" else None
    return Network((layer(2, 9), Pool(kind, 9, query), head(18 if kind == "mean-max" else 9, 3)))


NETWORKS = {  # by names which the code inside must leave free
    "lstm": Network((layer(1, 16), head(16, 1)), skip=1, sample_rate=48_000.0),
    "sizes": Network((*chain(2, 1, 3, 5, 13, 16, 33), head(33, 9, "tanh")), skip=2),
    "rnn": Network(RNNS),
    "options": Network(OPTIONS),
    "embedding": Network(TEXT, labels=tuple('aé"\\?/\n*€d?')),
    "dense": Network(HEADS),
    "scale": Network(UNITS),
    **{kind.replace("-", "_"): pooled(kind) for kind in ("mean", "max", "mean-max", "attention")},
}


def steps_of(network: Network) -> int:
    return 12 if any(isinstance(stage, Pool) for stage in network.stages) else 100


def input_of(network: Network) -> np.ndarray:
    """x [T,C]."""
    random, T = np.random.default_rng(1), steps_of(network)
    if network.symbols:
        return random.integers(0, network.symbols, (T, 1)).astype(np.float32)
    return random.standard_normal((T, network.input_size)).astype(np.float32)


def run(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=600, **more
    )
    assert found.returncode == 0, f"{command[0]}: {found.stdout}{found.stderr}"
    return found


def needed(*programs: str) -> str:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return programs[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All networks as C, and the program that runs them."""
    folder = tmp_path_factory.mktemp("c")
    for name, network in NETWORKS.items():
        networks.write(network, folder / f"{name}.c")
    includes = [f'#include "{name}.h"' for name in NETWORKS]
    runs = [f"RUN({name}, {name.upper()}, {steps_of(each)})" for name, each in NETWORKS.items()]
    lines = [*includes, '#include "c_driver.h"', "BEGIN", *runs, "END", ""]
    (folder / "main.c").write_text("\n".join(lines), "utf-8")
    np.concatenate([input_of(each).ravel() for each in NETWORKS.values()]).tofile(folder / "x")
    return folder


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The outputs of the stream and of the reference."""
    found = {}
    for name, network in NETWORKS.items():
        x = input_of(network)
        found[name] = load(network).process(x), reference.run(network, x[:, None])[:, 0]
    return found


BUILDS = {
    "gcc": ("gcc", ("-O2", *STRICT), ()),
    "gcc for this processor": ("gcc", ("-O3", "-march=native"), ()),
    "gcc without vectors": ("gcc", ("-O1", "-DUNDERTOW_SCALAR", *STRICT), ()),
    "gcc sanitized": ("gcc", (*SANITIZED, *STRICT), ()),
    "clang": ("clang", ("-O2", *STRICT), ()),
    "clang sanitized": ("clang", (*SANITIZED, "-march=native", *STRICT), ()),
    "aarch64": ("aarch64-linux-gnu-gcc", ("-O2", "-static", *STRICT), ("qemu-aarch64",)),
    "wasm": ("emcc", ("-O1", "-msimd128", "-sNODERAWFS=1", "-sSINGLE_FILE=1"), ("node",)),
}


@pytest.mark.parametrize("build", BUILDS)
def test_the_outputs_are_those_of_the_stream_and_of_the_reference(
    build: str, folder: Path, tmp_path: Path, expected: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    compiler, options, runner = BUILDS[build]
    needed(compiler, *runner)
    program, out = tmp_path / "program.js", tmp_path / "y"
    files = [folder / "main.c", *(folder / f"{name}.c" for name in NETWORKS)]
    run(compiler, *options, f"-I{HERE}", *files, "-o", program)
    run(*runner, program, folder / "x", out)
    y = np.fromfile(out, np.float32)
    for name, (streamed, truth) in expected.items():
        found, y = y[: streamed.size].reshape(streamed.shape), y[streamed.size :]
        bound = TOLERANCE * max(1, np.abs(truth).max())
        assert np.abs(found - streamed).max() <= bound, (name, np.abs(found - streamed).max())
        assert np.abs(found - truth).max() <= bound, (name, np.abs(found - truth).max())
    assert not y.size


# ---- one network, called from Python ----


class Compiled:
    """A network as a shared library, with one state."""

    def __init__(self, network: Network, folder: Path, *options: str, name: str = "net") -> None:
        networks.write(network, folder / f"{name}.c")
        run(
            "cc",
            "-O1",
            *STRICT,
            *options,
            "-shared",
            "-fPIC",
            folder / f"{name}.c",
            "-o",
            folder / f"{name}.so",
        )
        self._library = ctypes.CDLL(str(folder / f"{name}.so"))
        self._name, self._network = name, network
        self.state = np.zeros(4096, np.float32)  # more than any network here needs
        self.call("init")

    def call(self, function: str, *more: object) -> None:
        getattr(self._library, f"{self._name}_{function}")(ctypes.c_void_p(self.state.ctypes.data), *more)

    def process(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        y = np.empty((len(x), self._network.output_size), np.float32) if y is None else y
        assert x.dtype == y.dtype == np.float32
        pointers = (ctypes.c_void_p(each.ctypes.data) for each in (x, y))
        self.call("process", *pointers, ctypes.c_size_t(len(x)))
        return y


@pytest.mark.parametrize("name", ["lstm", "rnn", "options", "dense", "scale", "mean_max", "attention"])
def test_nan_stays_until_reset_and_infinity_is_as_in_the_stream(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    x, compiled, stream = input_of(network), Compiled(network, tmp_path), load(network)
    expected = compiled.process(x)
    for bad in (np.nan, np.inf, -np.inf):
        damaged = x.copy()
        damaged[3, 0] = bad
        compiled.call("reset")
        stream.reset()
        y, streamed = compiled.process(damaged), stream.process(damaged)
        np.testing.assert_array_equal(y[:3], expected[:3])
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(streamed))
        assert np.isnan(bad) == np.isnan(y[3]).any() or np.isnan(streamed[3]).any()
        np.testing.assert_array_equal(np.sign(y), np.sign(streamed))
        kept = np.isfinite(streamed)
        assert np.abs(y[kept] - streamed[kept]).max() <= TOLERANCE * max(1, np.abs(streamed[kept]).max())
    compiled.call("reset")
    np.testing.assert_array_equal(compiled.process(x), expected)


def test_an_unknown_symbol_gives_nan_until_reset_and_reads_no_memory(tmp_path: Path) -> None:
    network = NETWORKS["embedding"]
    compiled = Compiled(network, tmp_path)
    x = input_of(network)
    expected = compiled.process(x)
    for unknown in (-1, 11, 0.5, 1e30, -1e30, np.nan, np.inf):
        compiled.call("reset")
        assert np.isnan(compiled.process(np.float32([[2], [unknown], [3]]))[1:]).all()
    compiled.call("reset")
    np.testing.assert_array_equal(compiled.process(x), expected)


def test_the_output_may_overwrite_the_input(tmp_path: Path) -> None:
    network = NETWORKS["lstm"]
    compiled, x = Compiled(network, tmp_path), input_of(network)
    expected = compiled.process(x)
    compiled.call("reset")
    compiled.process(x, x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    "options", [{}, {"zoneout": (0.1, 0.3), "peepholes": draw(0.5, 3, 5)}, {"coupled": True}]
)
def test_a_trace_keeps_the_gates_of_the_last_step(options: dict[str, object], tmp_path: Path) -> None:
    H, network = 5, Network((layer(2, 5, **options),))
    compiled, x = Compiled(network, tmp_path, "-DNET_TRACE"), input_of(network)
    wide = {name: getattr(network.stages[0], name).astype(float) for name in ("h_0", "c_0", "bias")}
    one = network.stages[0]
    h, c, rates = wide["h_0"], wide["c_0"], one.zoneout
    for t in range(9):
        compiled.process(x[t : t + 1])
        sums = np.split(one.weight_ih @ x[t].astype(float) + one.weight_hh @ h + wide["bias"], 4)
        p = np.zeros((3, H)) if one.peepholes is None else one.peepholes
        i = 1 / (1 + np.exp(-sums[0] - p[0] * c))
        f = 1 - i if one.coupled else 1 / (1 + np.exp(-sums[1] - p[1] * c))
        g = np.tanh(sums[2])
        new = f * c + i * g
        o = 1 / (1 + np.exp(-sums[3] - p[2] * new))
        h = rates[0] * h + (1 - rates[0]) * o * np.tanh(new)
        c = rates[1] * c + (1 - rates[1]) * new
        header = (tmp_path / "net.h").read_text()
        end = sum(int(n) for n in re.findall(r"float (?!gates)\w+\[(\d+)\]", header))
        gates = compiled.state[end : end + 32].reshape(4, 8)[:, :H]
        np.testing.assert_allclose(gates, [i, f, g, o], atol=TOLERANCE)
        np.testing.assert_allclose(compiled.state[:H], h, atol=TOLERANCE)
        np.testing.assert_allclose(compiled.state[8 : 8 + H], c, atol=TOLERANCE)


# ---- the files ----


@pytest.mark.parametrize("compiler", ["gcc", "clang", "aarch64-linux-gnu-gcc"])
def test_the_object_is_small_and_calls_memcpy_at_most(compiler: str, tmp_path: Path) -> None:
    needed(compiler)
    cross = compiler.startswith("aarch64")
    nm = "aarch64-linux-gnu-nm" if cross else "nm"
    networks.write(Network((layer(1, 16), head(16, 1))), tmp_path / "amp.c")
    for name in ("options", "embedding", "mean_max"):
        networks.write(NETWORKS[name], tmp_path / f"{name}.c")
    for path in tmp_path.glob("*.c"):
        for option in ("-O2",) if cross else ("-Os", "-O3"):
            run(compiler, option, "-c", path, "-o", tmp_path / "object.o")
            assert path.stem != "amp" or (tmp_path / "object.o").stat().st_size <= 30_000
            called = set(run(nm, "-u", tmp_path / "object.o").stdout.split()[1::2])
            assert called <= {"memcpy"}, (path.stem, option, called)
        symbols = run(nm, "-g", "--defined-only", tmp_path / "object.o").stdout.split()[2::3]
        assert sorted(symbols) == [f"{path.stem}_{each}" for each in ("init", "process", "reset", "step")]


def test_the_header_is_read_by_cpp_and_holds_what_the_network_knows(tmp_path: Path) -> None:
    labels = NETWORKS["embedding"].labels
    for name in ("lstm", "embedding"):
        networks.write(NETWORKS[name], tmp_path / f"{name}.c")
    (tmp_path / "main.cc").write_text("""
#include <cstdio>
#include "lstm.h"
#include "embedding.h"
int main() {
  static const char* const labels[] = {EMBEDDING_LABELS};
  lstm_state s;
  float x[LSTM_INPUTS] = {1}, y[LSTM_OUTPUTS];
  lstm_init(&s);
  lstm_step(&s, x, y);
  std::printf("%d %d %d %.0f", LSTM_INPUTS, EMBEDDING_OUTPUTS, EMBEDDING_SYMBOLS, LSTM_SAMPLE_RATE);
  for (const char* each : labels) std::printf("|%s", each);
}
""")
    strict = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-c")
    run("c++", *strict, tmp_path / "main.cc", "-o", tmp_path / "main.o")
    run("cc", "-c", tmp_path / "lstm.c", "-o", tmp_path / "lstm.o")
    run("c++", tmp_path / "main.o", tmp_path / "lstm.o", "-o", tmp_path / "main")
    assert run(tmp_path / "main").stdout == "|".join(["1 11 11 48000", *labels])


def test_weights_are_exact(tmp_path: Path) -> None:
    values = np.float32([[0.1, -1e-42, 3e38, 1, 0, -0.0, 1 / 3, 1e-38]])
    networks.write(Network((Dense(values, [0.1]),)), tmp_path / "net.c")
    text = re.search(r"weight1\[8\] ALIGNED = {(.*?)}", (tmp_path / "net.c").read_text(), re.S)[1]
    found = np.float32([float.fromhex(number.strip().rstrip("f")) for number in text.split(",")])
    np.testing.assert_array_equal(found, values[0])


@pytest.mark.parametrize(
    ("file", "prefix"), [("my-amp 2.c", "my_amp_2"), ("2amp.C", "n2amp"), ("äon.c", "n_on")]
)
def test_any_file_name_gives_names_of_c(file: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / file
    networks.write(NETWORKS["lstm"], path)
    assert sorted(tmp_path.iterdir()) == sorted([path, path.with_suffix(".h")])
    run("cc", *STRICT, "-x", "c", "-c", path, "-o", tmp_path / "object.o")
    assert f"void {prefix}_step({prefix}_state *state" in path.with_suffix(".h").read_text("utf-8")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((both(2, 3),), "bidirectional"),
        ((layer(2, 3, reverse=True),), "reverse"),
        ((layer(2, 4), Pool("ends", 4)), "a pool of both ends"),
        ((Dense([[np.inf]], [0]),), "weight1: expected finite numbers"),
    ],
)
def test_what_c_cannot_do_is_refused_by_name(stages: tuple[object, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=f"net.c: C: {said}"):
        networks.write(Network(stages), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())
