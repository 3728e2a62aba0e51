"""``undertow.onnx.write``: a Network as an ONNX model, compared with the same network as a module."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from undertow import networks
from undertow.networks import Bidirectional, Network, Normalise, Pool
from undertow.nn.loaded import load
from undertow.onnx.checking import TOLERANCE, difference, needs, session_of, shapes_of, tried

SIZES = ((7, 3), (20, 1), (1, 2), (64, 4))  # T and N


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        inputs: The names of the model's inputs with their shapes, in which T and N are free.
        outputs: The same of its outputs.
        error: The largest difference of an output from the network's, divided by the largest output if that
            is above 1; None without a comparison.
    """

    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    error: float | None


def write(
    network: Network,
    path: str | PathLike[str],
    *,
    states: bool | None = None,
    lengths: bool | None = None,
    verify: bool = True,
) -> Written:
    """Write a network as an ONNX model, if ONNX Runtime computes what the network computes.

    Args:
        network: The network, as ``undertow.networks.read`` returns it.
        path: The file; its name ends in ``.onnx``.
        states: Whether the states of the layers are inputs and outputs. None: where the network answers at
            every step and no layer reads backwards.
        lengths: Whether the steps of each sequence are an input. None: where states are not.
        verify: Whether the model is compared with the network in ONNX Runtime, with four numbers of steps and
            sequences.

    Returns:
        The inputs and outputs, and the result of the comparison.

    Raises:
        ModuleNotFoundError: onnx or, for ``verify``, onnxruntime is missing.
        networks.Unsupported: ONNX has no operator for a part of the network; the message names it.
        ValueError: The name has another ending.
        RuntimeError: The outputs differ by more than 1e-6; nothing is written.
        OSError: The file cannot be written.
    """
    needs("onnx", *["onnxruntime"] * verify)
    import onnx

    streams = not network.once and not any(isinstance(s, Pool | Bidirectional) for s in network.stages)
    states = streams if states is None else states
    lengths = not states if lengths is None else lengths
    with TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        networks.write(network, made, states=states, lengths=lengths)
        error = _compared(made.read_bytes(), network, states, lengths) if verify else None
        graph = onnx.load(made).graph
    networks.write(network, Path(path), states=states, lengths=lengths)
    return Written(shapes_of(graph.input), shapes_of(graph.output), error)


def _compared(data: bytes, network: Network, states: bool, lengths: bool) -> float:
    """The largest difference of y between ONNX Runtime and the module."""
    session, module, random = session_of(data), load(network), np.random.default_rng(0)
    names = [each.name for each in session.get_outputs()]

    def run(**given: Any) -> dict[str, Any]:
        return dict(zip(names, tried(session.run, None, given), strict=True))

    largest = 0.0
    for T, N in SIZES:
        x, own = _input(network, T, N, random), random.integers(1, T + 1, N)
        if states:
            found = [(_in_parts(run, network, x), _answer(module, x))]
        elif lengths:
            y, alone = (
                run(x=x, lengths=own)["y"],
                [_answer(module, x[:n, k : k + 1]) for k, n in enumerate(own)],
            )
            found = [(y[: len(right), k : k + 1], right) for k, right in enumerate(alone)]
        else:
            found = [(run(x=x)["y"], _answer(module, x))]
        apart = max(difference(got, right) for got, right in found)
        if not apart <= TOLERANCE:  # a NaN is none
            raise RuntimeError(
                f"y: expected ONNX Runtime within {TOLERANCE:.0e} of the network, got {apart:.1e} "
                f"with {T} steps of {N} sequences"
            )
        largest = max(largest, apart)
    return largest


def _input(network: Network, T: int, N: int, random: np.random.Generator) -> Any:
    if network.symbols:
        return random.integers(0, network.symbols, (T, N))
    x = random.standard_normal((T, N, network.input_size), np.float32)
    first = network.stages[0]
    return first.centre + first.scale * x if isinstance(first, Normalise) else x


def _answer(module: Any, x: Any) -> Any:
    """The module's y as the model gives it, [T,N,O] or [1,N,O]."""
    with torch.no_grad():
        y = module(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return y[None] if y.ndim == 2 else y


def _in_parts(run: Callable[..., dict[str, Any]], network: Network, x: Any) -> Any:
    """The model's y of a sequence in two calls, the second of which begins with the states of the first."""
    N, layers = x.shape[1], network.recurrent()
    state = {f"h_0_l{k}": np.tile(each.h_0, (1, N, 1)) for k, each in enumerate(layers)}
    lstms = [(k, each) for k, each in enumerate(layers) if each.cell == "lstm"]
    state |= {f"c_0_l{k}": np.tile(each.c_0, (1, N, 1)) for k, each in lstms}
    found, cut = [], (len(x) + 1) // 2
    for part in (x[:cut], x[cut:]):
        if len(part):
            given = run(x=part, **state)
            found.append(given.pop("y"))
            state = {name.replace("_n_", "_0_"): value for name, value in given.items()}
    return np.concatenate(found)
