"""One call of the kernels as the tests make it: the problem, its layout, the equations' answer.

Every output is filled with NaN before the call, so whatever a kernel leaves unwritten is seen.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from undertow import equations
from undertow.kernels import native

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# The buffer's shape for an array [T,N,K], and the array as a view of that buffer.
LAYOUTS: dict[str, tuple[Callable[..., tuple[int, ...]], Callable[[np.ndarray], np.ndarray]]] = {
    "contiguous": (lambda T, N, K: (T, N, K), lambda a: a),
    "batch first": (lambda T, N, K: (N, T, K), lambda a: a.transpose(1, 0, 2)),
    "wide": (lambda T, N, K: (T, N, 2 * K + 1), lambda a: a[:, :, 1 : (a.shape[2] + 1) // 2]),
    "backwards": (lambda T, N, K: (T, N, K), lambda a: a[::-1, ::-1]),
}


@dataclass
class Layouter:
    """Makes [T,N,K] arrays in one layout and remembers which parts of their buffers must stay untouched."""

    layout: str = "contiguous"
    spare: list[tuple[np.ndarray, np.ndarray]] = field(
        default_factory=list
    )  # buffer, where it is not the array

    def empty(self, T: int, N: int, K: int, dtype: Any) -> np.ndarray:
        shape, view = LAYOUTS[self.layout]
        buffer, outside = np.full(shape(T, N, K), np.nan, dtype), np.ones(shape(T, N, K), bool)
        view(outside)[...] = False
        self.spare.append((buffer, outside))
        return view(buffer)

    def copy(self, array: np.ndarray) -> np.ndarray:
        out = self.empty(*array.shape, array.dtype)
        out[...] = array
        return out

    def check_untouched(self) -> None:
        for buffer, outside in self.spare:
            assert np.isnan(buffer[outside]).all(), "written outside of the array"


@dataclass(frozen=True)
class Case:
    """One problem. ``ragged``: sequences in no order, of different lengths, one zero. ``packed``: they
    are given to the kernel as PackedSequence holds them (none zero), and its answer is padded again."""

    cell: str = "lstm"
    T: int = 12
    N: int = 7
    C: int = 9
    H: int = 37
    dtype: str = "float64"
    reverse: bool = False
    ragged: bool = False
    packed: bool = False
    bias: bool = True
    seed: int = 0

    @property
    def rows(self) -> int:
        return (4 if self.cell == "lstm" else 1) * self.H

    @cached_property
    def lengths(self) -> np.ndarray | None:
        """[N], in no order."""
        if not self.ragged:
            return None
        lengths = np.linspace(self.T, 1 if self.packed else 0, self.N).astype(np.int64)
        return np.random.default_rng(self.seed).permutation(lengths)

    @cached_property
    def order(self) -> np.ndarray:
        """[N]: the sequence of each rank, longest first."""
        lengths = np.full(self.N, self.T) if self.lengths is None else self.lengths
        return np.argsort(-lengths, kind="stable")

    @cached_property
    def batch_sizes(self) -> np.ndarray:
        """[T]: how many sequences are longer than t."""
        lengths = np.full(self.N, self.T) if self.lengths is None else self.lengths
        return (lengths > np.arange(self.T)[:, None]).sum(1)

    @property
    def ranking(self) -> dict[str, np.ndarray | None]:
        """What the kernels are told of the lengths."""
        if self.packed:
            return {"lengths": None, "batch_sizes": self.batch_sizes, "order": self.order}
        return {"lengths": self.lengths, "batch_sizes": None, "order": None}

    @cached_property
    def tape_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """s and the sequence of each row of the tape."""
        times = range(self.T)[::-1] if self.reverse else range(self.T)
        pairs = [(s, n) for s, t in enumerate(times) for n in self.order[: self.batch_sizes[t]]]
        found = np.array(pairs, np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def as_tape(self, array: np.ndarray) -> np.ndarray:
        """[T,N,...] in processing order -> as the kernels keep it: a row for each active (s, sequence)."""
        return array if self.lengths is None and not self.packed else array[self.tape_rows]

    def pack(self, array: np.ndarray) -> np.ndarray:
        """[T,N,K] -> [R,K]."""
        return np.concatenate(
            [array[:0, 0], *(array[t, self.order[:n]] for t, n in enumerate(self.batch_sizes))]
        )

    def pad(self, rows: np.ndarray) -> np.ndarray:
        """[R,K] -> [T,N,K], zero past each sequence's end."""
        out, ends = np.zeros((self.T, self.N, rows.shape[1]), rows.dtype), np.cumsum(self.batch_sizes)
        for t, n in enumerate(self.batch_sizes):
            out[t, self.order[:n]] = rows[ends[t] - n : ends[t]]
        return out

    @cached_property
    def inputs(self) -> Arrays:
        """x, states, weights and biases, drawn so that gates stay open whatever C and H are."""
        T, N, C, H, random = self.T, self.N, self.C, self.H, np.random.default_rng(self.seed)
        shapes = {"x": (T, N, C), "h_0": (N, H), "c_0": (N, H)}
        weights = {"weight_ih": (self.rows, C), "weight_hh": (self.rows, H)}
        weights |= {"bias_ih": (self.rows,), "bias_hh": (self.rows,)} if self.bias else {}
        arrays = {name: random.standard_normal(shape) for name, shape in shapes.items()}
        for name, shape in weights.items():
            bound = max(shape[-1], 1) ** -0.5 if len(shape) == 2 else H**-0.5
            arrays[name] = random.uniform(-bound, bound, shape)
        if self.cell == "rnn":
            del arrays["c_0"]
        return {name: a.astype(self.dtype) for name, a in arrays.items()}

    @cached_property
    def upstream(self) -> Arrays:
        """dy, dh_n and dc_n."""
        random = np.random.default_rng(self.seed + 1)
        shapes = {"dy": (self.T, self.N, self.H), "dh_n": (self.N, self.H), "dc_n": (self.N, self.H)}
        if self.cell == "rnn":
            del shapes["dc_n"]
        return {name: random.standard_normal(shape).astype(self.dtype) for name, shape in shapes.items()}

    def padded_with_nan(self, array: np.ndarray) -> np.ndarray:
        """The same [T,N,K] with NaN past each sequence's end: nobody may look there."""
        if self.lengths is None:
            return array
        return np.where(np.arange(self.T)[:, None, None] < self.lengths[:, None], array, np.nan).astype(
            self.dtype
        )

    # ------------------------------------------------------------------ the equations' answer

    @cached_property
    def _reference(self) -> tuple[np.ndarray, Any]:
        biases = [self.inputs[name].astype(np.float64) for name in ("bias_ih", "bias_hh") if self.bias]
        states = [self.inputs[name] for name in ("h_0", "c_0") if name in self.inputs]
        run = equations.lstm if self.cell == "lstm" else equations.rnn
        weights = self.inputs["weight_ih"], self.inputs["weight_hh"], sum(biases) if biases else None
        return run(self.inputs["x"], *states, *weights, lengths=self.lengths, reverse=self.reverse)

    @cached_property
    def expected_outputs(self) -> Arrays:
        y, tape = self._reference
        found = {"y": y, "h_n": tape.h[-1]}
        if self.cell == "rnn":
            return found
        c = tape.c
        if self.lengths is not None or self.packed:
            c = np.concatenate([tape.c[0][self.order], self.as_tape(tape.c[1:])])
        return found | {"c_n": tape.c[-1], "gates": self.as_tape(tape.gates), "c": c}

    def expected_gradients(self, upstream: Arrays | None = None) -> Arrays:
        """All gradients; what ``upstream`` lacks counts as zero."""
        _, tape = self._reference
        d = {"dy": np.zeros((self.T, self.N, self.H)), **(self.upstream if upstream is None else upstream)}
        weights = self.inputs["weight_ih"], self.inputs["weight_hh"]
        run = equations.lstm_backward if self.cell == "lstm" else equations.rnn_backward
        found = run(tape, self.inputs["x"], *weights, **d)
        names = [*GRADIENTS, *(["dc_0"] if self.cell == "lstm" else [])]
        steps = {"dgates": found.dgates, "dh": found.dh[1:]} | (
            {"dc": found.dc[1:]} if self.cell == "lstm" else {}
        )
        return {name: getattr(found, name) for name in names} | {
            name: self.as_tape(array) for name, array in steps.items()
        }

    # ------------------------------------------------------------------ the kernels' answer

    @property
    def given(self) -> Arrays:
        """What the kernels are given beside upstream gradients and a tape: NaN past each sequence's end."""
        return self.inputs | {"x": self.padded_with_nan(self.inputs["x"])}

    @property
    def tape_shape(self) -> tuple[int, ...]:
        return (self.T, self.N) if self.lengths is None and not self.packed else (len(self.tape_rows[0]),)

    @property
    def tape_shapes(self) -> Shapes:
        """The arrays of the tape."""
        if self.cell == "rnn":
            return {}
        T, N, H, steps = self.T, self.N, self.H, self.tape_shape
        return {"gates": (*steps, 4, H), "c": (T + 1, N, H) if len(steps) == 2 else (N + steps[0], H)}

    @property
    def gradient_shapes(self) -> Shapes:
        """All that backward writes, but for dx."""
        N, C, H, steps = self.N, self.C, self.H, self.tape_shape
        shapes: Shapes = {"dh_0": (N, H), "dweight_ih": (self.rows, C), "dweight_hh": (self.rows, H)}
        shapes |= {"dbias": (self.rows,), "dgates": (*steps, self.rows // H, H), "dh": (*steps, H)}
        return shapes | ({"dc_0": (N, H), "dc": (*steps, H)} if self.cell == "lstm" else {})

    def blank(self, shapes: Shapes) -> Arrays:
        return {name: np.full(shape, np.nan, self.dtype) for name, shape in shapes.items()}

    def place(self, lay: Layouter, array: np.ndarray, blank: bool = False) -> np.ndarray:
        """[T,N,K] laid out as the kernel is to find it; ``blank``: only room for it."""
        found = lay.copy(self.pack(array)[None])[0] if self.packed else lay.copy(array)
        if blank:
            found[...] = np.nan
        return found

    def forward(self, *, tape: bool = True, layout: str = "contiguous", threads: int = 1) -> Arrays:
        """y, h_n, c_n and, with ``tape``, its arrays. Checks that nothing else was written."""
        T, N, H, lay = self.T, self.N, self.H, Layouter(layout)
        states: Shapes = {"h_n": (N, H)} | ({"c_n": (N, H)} if self.cell == "lstm" else {})
        out = self.blank(states | (self.tape_shapes if tape else {}))
        out["y"] = self.place(lay, np.zeros((T, N, H), self.dtype), blank=True)
        call("forward", self, self.given | {"x": self.place(lay, self.given["x"])}, out, threads)
        lay.check_untouched()
        return out | {"y": self.pad(out["y"]) if self.packed else out["y"]}

    def backward(
        self,
        outputs: Arrays,
        *,
        upstream: Arrays | None = None,
        wanted: tuple[str, ...] | None = None,
        layout: str = "contiguous",
        threads: int = 1,
    ) -> Arrays:
        """The gradients in ``wanted`` (None: all) from the tape that ``forward`` left in ``outputs``."""
        lay, left = Layouter(layout), ("y", *self.tape_shapes)
        out = self.blank(self.gradient_shapes)
        out["dx"] = self.place(lay, np.zeros((self.T, self.N, self.C), self.dtype), blank=True)
        out = {name: a for name, a in out.items() if wanted is None or name in wanted}
        given = self.given | {name: outputs[name] for name in left}
        given |= self.upstream if upstream is None else upstream
        for name in {"x", "y", "dy"} & given.keys():
            given[name] = self.place(lay, self.padded_with_nan(given[name]))
        call("backward", self, given, out, threads)
        lay.check_untouched()
        return out | ({"dx": self.pad(out["dx"])} if self.packed and "dx" in out else {})

    def run(self, threads: int = 1) -> Arrays:
        """Everything that both passes give."""
        outputs = self.forward(threads=threads)
        return outputs | self.backward(outputs, threads=threads)

    def alone(self, n: int) -> "Case":
        """The n-th sequence as a problem of its own, as long as the sequence is."""
        T = self.T if self.lengths is None else int(self.lengths[n])
        one = replace(self, T=T, N=1, ragged=False, packed=False)
        one.__dict__["inputs"] = self.inputs | {"x": self.inputs["x"][:T, n : n + 1].copy()}
        one.__dict__["upstream"] = self.upstream | {"dy": self.upstream["dy"][:T, n : n + 1].copy()}
        for arrays, name in (
            (one.inputs, "h_0"),
            (one.inputs, "c_0"),
            (one.upstream, "dh_n"),
            (one.upstream, "dc_n"),
        ):
            if name in arrays:
                arrays[name] = arrays[name][n : n + 1].copy()
        return one

    def __str__(self) -> str:
        flags = [name for name in ("reverse", "ragged", "packed") if getattr(self, name)] + ["no-bias"] * (
            not self.bias
        )
        return "-".join([self.cell, self.dtype, f"{self.T},{self.N},{self.C},{self.H}", *flags])


GRADIENTS = ("dx", "dh_0", "dweight_ih", "dweight_hh", "dbias")
TAPE = ("gates", "c", "normed", "scale")
TRAINED = ("reset_h", "reset_c", "peepholes", "gain_x", "gain_h", "gain_c", "bias_c")
OPTIONS = ("mask", "reset", "recurrent", "zoneout_h", "zoneout_c", "coupled", *TRAINED)


def arguments(
    function: str, cell: str, given: Mapping[str, Any], reverse: bool = False, threads: int = 1
) -> tuple[Any, ...]:
    """The arguments of native.forward or native.backward, from arrays by their names.

    What ``given`` lacks is None; so are the tape and the options of which it has nothing.
    """

    def those(*names: str) -> tuple[Any, ...]:
        return tuple(given.get(name) for name in names)

    def added(prefix: str, names: tuple[str, ...]) -> SimpleNamespace | None:
        some = {name: given.get(prefix + name) for name in names}
        return SimpleNamespace(**some) if any(prefix + name in given for name in names) else None

    states, weights = those("h_0", "c_0"), those("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    tape = those(*(name for name in TAPE if name in given)) or None
    ragged = those("lengths", "batch_sizes", "order")
    problem, options = (cell, given.get("x"), states, weights), added("", OPTIONS)
    if function == "forward":
        return *problem, those("y", "h_n", "c_n"), tape, ragged, options, reverse, threads
    wanted = those("dx", "dh_0", "dc_0", "dweight_ih", "dweight_hh", "dbias")
    gradients = those("dy", "dh_n", "dc_n"), wanted, those("dgates", "dh", "dc")
    return *problem, given.get("y"), tape, *gradients, ragged, options, added("d", TRAINED), reverse, threads


def call(function: str, case: Case, given: Arrays, out: Arrays, threads: int) -> None:
    """One call of the kernel; ``given`` must come back unchanged."""
    before = {name: np.copy(a) for name, a in given.items()}
    arrays = given | case.ranking | out
    getattr(native, function)(*arguments(function, case.cell, arrays, case.reverse, threads))
    for name, a in before.items():
        np.testing.assert_array_equal(given[name], a, err_msg=f"{name} was written to")


def assert_close(found: Arrays, expected: Arrays, tolerance: float) -> None:
    """Every array within ``tolerance`` of the largest magnitude expected in it, and nothing NaN."""
    assert found.keys() <= expected.keys()
    for name, a in found.items():
        reach = np.abs(expected[name]).max(initial=0)
        np.testing.assert_allclose(
            a, expected[name], rtol=0, atol=tolerance * reach, equal_nan=False, err_msg=name
        )


def assert_same_bits(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, a in found.items():
        assert np.array_equal(a, expected[name]), f"{name}: {np.sum(a != expected[name])} entries differ"
