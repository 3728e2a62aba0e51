"""A model in ONNX Runtime beside the module from which it was made, with several sizes of its inputs."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from undertow.onnx.translation import ARGUMENTS, LAYER

TOLERANCE = 1e-6
# The sizes that are tried, as functions of the example's: the number of steps, then all other free sizes.
SIZES = (
    (lambda n: n, lambda n: n),
    (lambda n: n + 3, lambda n: n + 2),
    (lambda n: 1, lambda n: n),
    (lambda n: 2 * n, lambda n: 1),
)
Shapes = tuple[tuple[int, ...], ...]


def installed(library: str) -> bool:
    """Return whether a library can be imported."""
    return find_spec(library) is not None


def needs(*libraries: str) -> None:
    """Raise ModuleNotFoundError, with what to do, where one of the libraries is missing."""
    for library in libraries:
        if not installed(library):
            hint = f"undertow.onnx needs {library}: pip install 'undertow[onnx]'"
            raise ModuleNotFoundError(hint, name=library)


def session_of(data: bytes) -> Any:
    """Load a model into ONNX Runtime. Raises RuntimeError where ONNX Runtime refuses it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return tried(onnxruntime.InferenceSession, data, options, providers=["CPUExecutionProvider"])


def compare(
    made: Any, program: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[float, tuple[Shapes, ...]]:
    """Compare a model's outputs with its module's.

    Args:
        made: torch.onnx.ONNXProgram.
        program: The exported program from which it was made.
        model: The module, in eval mode.
        args: Its example arguments.
        kwargs: Its example keyword arguments.

    Returns:
        The largest difference, relative to the largest output if that is above 1, and the shapes compared.

    Raises:
        RuntimeError: The difference is above 1e-6, or ONNX Runtime cannot run the model.
    """
    session = session_of(made.model_proto.SerializeToString())
    largest, compared = 0.0, []
    for given_args, given_kwargs in _examples(program, args, kwargs):
        tensors = _tensors((given_args, given_kwargs))
        feed = {each.name: t.numpy() for each, t in zip(session.get_inputs(), tensors, strict=True)}
        shapes = tuple(tuple(t.shape) for t in tensors)
        with torch.no_grad():
            wanted = _tensors(model(*given_args, **given_kwargs))
        for k, (got, right) in enumerate(zip(tried(session.run, None, feed), wanted, strict=True)):
            apart = difference(got, right.numpy())
            if not apart <= TOLERANCE:  # a NaN is none
                raise RuntimeError(
                    f"output {k}: expected ONNX Runtime within {TOLERANCE:.0e} of the module, got "
                    f"{apart:.1e} with inputs of shapes {', '.join(str(list(shape)) for shape in shapes)}"
                )
            largest = max(largest, apart)
        compared.append(shapes)
    return largest, tuple(compared)


def shapes_of(values: Any) -> dict[str, tuple[int | str, ...]]:
    """Return the names of a graph's inputs or outputs with their shapes; a free size is its name."""
    return {
        each.name: tuple(dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim)
        for each in values
    }


def tried(do: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function of ONNX Runtime. Raises RuntimeError in place of its own exceptions."""
    try:
        return do(*args, **kwargs)
    except Exception as error:  # of onnxruntime's own kinds
        why = f"{error}; verify=False writes it all the same"
        raise RuntimeError(f"ONNX Runtime cannot run the model: {why}") from None


def difference(got: Any, right: Any) -> float:
    """Return the largest difference, divided by the largest number of ``right`` if that is above 1."""
    if got.shape != right.shape:
        return float("inf")
    if not right.size:
        return 0.0
    return float(np.abs(got - right).max() / max(1.0, np.abs(right).max()))


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if _is_tensor(each)]


def _examples(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The arguments with other free sizes: numbers are drawn, whole numbers and booleans repeat."""
    placeholders = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    symbolic = placeholders[-len(_tensors((args, kwargs))) :]  # after the parameters
    free = sorted({s for each in symbolic for n in each.shape for s in symbols(n)}, key=str)
    steps = _steps(program)
    sizes = _sizes(symbolic, _tensors((args, kwargs)))
    draw = torch.Generator().manual_seed(0)
    for of_steps, of_others in SIZES if free else SIZES[:1]:
        chosen = {s: (of_steps if s in steps else of_others)(sizes[s]) for s in free}
        most = min((chosen[s] for s in steps if s in chosen), default=None)
        leaves, tree = pytree.tree_flatten((args, kwargs))
        shapes = iter([_shape(each, chosen) for each in symbolic])
        new = [_drawn(each, next(shapes), most, draw) if _is_tensor(each) else each for each in leaves]
        yield pytree.tree_unflatten(new, tree)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _drawn(like: Tensor, shape: tuple[int, ...], most: int | None, draw: torch.Generator) -> Tensor:
    """A tensor of another shape. Whole numbers are at most the number of steps: they may be lengths."""
    if like.is_floating_point():
        return (
            torch.randn(shape, generator=draw).to(like.dtype) * like.std(correction=0).clamp(min=1e-3)
            + like.mean()
        )
    own = like.flatten()[torch.randint(like.numel(), shape, generator=draw)]
    return own if most is None or like.dtype == torch.bool else own.clamp(max=most)


def symbols(size: Any) -> set[Any]:
    """Return the free symbols of a size. A fixed one has none, even where torch still calls it symbolic."""
    return set() if isinstance(size, int) else set(size.node.expr.free_symbols)


def _steps(program: Any) -> set[Any]:
    """The symbols of the layers' numbers of steps."""
    nodes = [node for node in program.graph.nodes if node.target is LAYER]
    inputs = [(dict(zip(ARGUMENTS, node.args, strict=False)) | node.kwargs)["tensors"][0] for node in nodes]
    return {s for x in inputs for s in symbols(x.meta["val"].shape[0])}


def _sizes(symbolic: list[Any], given: list[Tensor]) -> dict[Any, int]:
    """The example's value of each symbol that is a size by itself."""
    return {
        size.node.expr: n
        for each, tensor in zip(symbolic, given, strict=True)
        for size, n in zip(each.shape, tensor.shape, strict=True)
        if not isinstance(size, int)
    }


def _shape(symbolic: Any, chosen: dict[Any, int]) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else int(n.node.expr.subs(chosen)) for n in symbolic.shape)
