"""The streaming runtime: one network, any number of streams, each with its own state."""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import numpy.typing as npt

from undertow.kernels import native
from undertow.networks import Network, Pool, Recurrent, read
from undertow.stream.packing import stages_of

Array = npt.NDArray[np.float32]
MOST = 1 << 20  # streams at once
State = tuple[Array, ...]


class Stream(native.Streams):
    """A network that runs step by step.

    The state goes on from call to call. The output does not depend, to the last bit, on how the input is cut
    into calls, nor on the other streams. ``step``, the function that ``bind`` returns and, with ``out``,
    ``process`` allocate nothing, lock nothing and do not call the system. Calls of more than about 500,000
    multiplications release Python's lock meanwhile, and take it again.

    Attributes:
        network: The network.
        dtype: Of the weights of its LSTM layers.
    """

    network: Network
    dtype: str

    def __init__(
        self,
        network: Network,
        count: int | None = None,
        dtype: str = "float32",
        _plan: native.Plan | None = None,
    ) -> None:
        """Make streams of a network.

        Args:
            network: What runs.
            count: N, how many streams run together on the same weights. None: one, whose arrays have no N.
            dtype: Of the weights of LSTM layers: ``float32``, or ``int16``, which is quicker in larger layers
                (docs/stream.md). Input weights stay float32, unless the input is the h of the layer below.
                So do layers with options and layers whose weights are not finite.

        Raises:
            Unsupported: The network has a layer that reads backwards.
            TypeError: ``count`` is no whole number.
            ValueError: ``count`` is not between 1 and 1,048,576, or ``dtype`` is another one.
        """
        if count is not None:
            if isinstance(count, bool) or not isinstance(count, Integral):
                raise TypeError(f"count: expected a whole number, got {count!r}")
            if not 1 <= count <= MOST:
                raise ValueError(f"count: expected between 1 and {MOST:,}, got {count}")
        plan = native.Plan(stages_of(network, dtype), network.skip) if _plan is None else _plan
        super().__init__(plan, 1 if count is None else count, count is not None)
        self._plan = plan
        self.network, self.dtype, self._count = network, dtype, count

    def process(self, x: npt.ArrayLike, out: Array | None = None) -> Array:
        """Take T steps.

        Args:
            x: The input, [T,C]; of N streams [T,N,C]. With C = 1 the last dimension may be left out. With an
                embedding the symbols, whole numbers. What is not float32 and contiguous is copied.
            out: Where the output is written, float32, contiguous; it may be ``x`` itself where C is O. None:
                a new array.

        Returns:
            The output, [T,O] or [T,N,O]; without the last dimension where ``x`` has none and O is 1.

        Raises:
            TypeError: ``x`` holds no real numbers, or ``out`` is no such array.
            ValueError: A shape does not fit, or a symbol is unknown. The message names the argument.
            RuntimeError: Another thread is using the stream.
        """
        given = self._array(x)
        if out is None:
            out = np.empty(self._shape(given), np.float32)
        self.run(given, out)
        return out

    @property
    def state(self) -> State:
        """What the stream remembers, as copies, stage by stage.

        A recurrent layer has h [R], an LSTM also c [H]. A pool has the count of steps, in the bits of a
        number, then means and largest values; with attention the largest score and the sum of weights, then
        means. With N streams each array has N as its first dimension. The state can be set to an earlier
        state, or to that of another stream of the same network.
        """
        return tuple(self._moved(None))

    @state.setter
    def state(self, given: Sequence[npt.ArrayLike]) -> None:
        if not hasattr(given, "__len__"):
            raise TypeError(f"state: expected a sequence of arrays, got {type(given).__name__}")
        self._moved(given)

    def streams(self, count: int | None = None) -> "Stream":
        """Make streams that run together on these weights, each from the initial state.

        Args:
            count: N, 1 to 1,048,576. None: one more stream like this one, for another thread for example.

        Returns:
            A Stream; with a count its arrays have N as the dimension before the last.

        Raises:
            ValueError: ``count`` is another one.
        """
        return Stream(self.network, count, self.dtype, self._plan)

    def _array(self, x: npt.ArrayLike) -> Array:
        plain = type(x) is np.ndarray and x.dtype == np.float32 and x.flags.c_contiguous
        return x if plain else np.ascontiguousarray(_numbers("x", x))  # type: ignore[return-value]

    def _shape(self, x: Array) -> tuple[int, ...]:
        whole = 2 if self._count is None else 3
        out = () if x.ndim < whole and self.network.output_size == 1 else (self.network.output_size,)
        return (*x.shape[: whole - 1], *out)

    def _moved(self, given: Sequence[npt.ArrayLike] | None) -> list[Array]:
        parts, found = list(self._parts()), []
        if given is not None and len(given) != len(parts):
            raise ValueError(f"state: expected {len(parts)} arrays, got {len(given)}")
        rows = () if self._count is None else (self._count,)
        for k, (stage, offset, size) in enumerate(parts):
            array = np.empty((*rows, size), np.float32)
            if given is not None:
                part = _numbers(f"state[{k}]", given[k])
                if part.shape != array.shape:
                    raise ValueError(
                        f"state[{k}]: expected shape {list(array.shape)}, got {list(part.shape)}"
                    )
                is_h = offset == 0 and isinstance(self.network.stages[stage], Recurrent)
                if is_h and self.dtype == "int16" and (abs(part) > 1).any():
                    raise ValueError(f"state[{k}]: expected h between -1 and 1, as int16 keeps it")
                array[...] = part
            found.append(array)
        for (stage, offset, size), array in zip(parts, found, strict=True):
            self.move_state(stage, offset, array.reshape(-1, size), given is not None)
        return found

    def _parts(self) -> Sequence[tuple[int, int, int]]:
        """The stage, where in its state the part begins, and how many floats it has."""
        parts: list[tuple[int, int, int]] = []
        for k, stage in enumerate(self.network.stages):
            if isinstance(stage, Recurrent):
                parts.append((k, 0, stage.output_size))
                if stage.cell == "lstm":
                    parts.append((k, -(-stage.output_size // self.lanes) * self.lanes, stage.hidden_size))
            elif isinstance(stage, Pool):
                parts += _of_pool(k, stage, self.lanes)
        return parts


def _numbers(name: str, given: npt.ArrayLike) -> Array:
    """Return float32. Raises TypeError for what NumPy would make NaN of (None) or cut (complex numbers)."""
    found = np.asarray(given)
    if found.dtype.kind not in "biuf" and found.size:
        raise TypeError(f"{name}: expected real numbers, got {found.dtype}")
    return found.astype(np.float32, copy=False)


def _of_pool(k: int, stage: Pool, lanes: int) -> list[tuple[int, int, int]]:
    width = -(-stage.width // lanes) * lanes
    head = [(k, 0, 2 if stage.kind == "attention" else 1), (k, lanes, stage.width)]
    return [*head, (k, lanes + width, stage.width)] if stage.kind == "mean-max" else head


def load(source: str | Path | Network, dtype: str = "float32") -> Stream:
    """Load a trained network to run.

    Args:
        source: A file or a run folder that ``undertow.networks.read`` reads (docs/formats.md), or a Network.
        dtype: Of the weights of LSTM layers, ``float32`` or ``int16``.

    Returns:
        One stream, in its initial state.

    Raises:
        Unsupported: The file holds what a stream cannot run; the message names it.
        ValueError: The file cannot be read, is damaged, or of an unknown kind, or ``dtype`` is another one.
    """
    return Stream(source if isinstance(source, Network) else read(source), dtype=dtype)
