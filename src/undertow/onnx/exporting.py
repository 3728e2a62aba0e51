"""``undertow.onnx.export``: a module through torch.export into ONNX, checked before it is written."""

import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from undertow import atomic
from undertow.networks import Unsupported
from undertow.nn import LSTM, RNN
from undertow.onnx import checking
from undertow.onnx.checking import shapes_of
from undertow.onnx.translation import ARGUMENTS, LAYER, refused, translations

FOLDED = 1 << 40  # bytes: weights are brought into ONNX's order in the file, whatever their size


@dataclass(frozen=True)
class Exported:
    """An ONNX model.

    Attributes:
        program: torch.onnx.ONNXProgram.
        shapes: The shapes of the inputs with which the model was compared, in the order of comparison; empty
            without a comparison.
        error: The largest difference of an output from the module's, divided by the largest output if that
            is above 1; None without a comparison.
    """

    program: Any
    shapes: tuple[tuple[tuple[int, ...], ...], ...] = ()
    error: float | None = None

    @property
    def model(self) -> Any:
        """The model, onnx.ModelProto."""
        return self.program.model_proto

    @property
    def inputs(self) -> dict[str, tuple[int | str, ...]]:
        """The names of the model's inputs with their shapes; a free size is a name, such as T or N."""
        return shapes_of(self.model.graph.input)

    @property
    def outputs(self) -> dict[str, tuple[int | str, ...]]:
        """The same of its outputs."""
        return shapes_of(self.model.graph.output)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model. The file appears complete or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        data = self.model.SerializeToString()
        atomic.write(Path(path), lambda beside: beside.write_bytes(data))


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    path: str | PathLike[str] | None = None,
    *,
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    verify: bool = True,
) -> Exported:
    """Export a module that holds undertow's layers, in eval mode, with T and N free.

    Each layer is one LSTM or RNN node: both directions, ``lengths`` as the node's ``sequence_lens``, initial
    and final states, ``peepholes`` and ``coupled`` gates. Every size of an input that the module leaves free
    is free in the model.

    Args:
        model: The module. Its mode is the same afterwards.
        args: Example arguments of ``model``; free sizes are at least 2 in them.
        path: Where the model is written. None: nowhere.
        kwargs: Example keyword arguments, such as ``lengths``.
        dynamic_shapes: As of torch.export.export, for those who fix some sizes. None: all are free that can
            be; a number of steps or sequences that the module fixes is refused.
        input_names: Names of the model's inputs. None: those of the arguments.
        output_names: Names of the model's outputs. None: y, h_n and c_n of an LSTM, else torch's.
        verify: Whether the model is compared with the module in ONNX Runtime, with several numbers of steps
            and sequences.

    Returns:
        The model and the result of the comparison.

    Raises:
        ModuleNotFoundError: onnxscript, or for ``verify`` onnxruntime, is missing.
        networks.Unsupported: ONNX has no operator for an option or argument; the message names it.
        ValueError: An example size is 1 or the module fixes the number of steps or sequences.
        RuntimeError: The outputs differ by more than 1e-6; the file is not written.
        OSError: The file cannot be written.
    """
    checking.needs("onnxscript", *["onnxruntime"] * verify)
    kwargs = kwargs or {}
    with _evaluated(model), _quiet():
        shapes = _free(model, args, kwargs) if dynamic_shapes is None else dynamic_shapes
        program = torch.export.export(model, tuple(args), kwargs, dynamic_shapes=shapes)
        _check(program, dynamic_shapes is None)
        made = _converted(program, input_names, output_names or _names(model))
        if not verify:
            found = Exported(made)
        else:
            error, compared = checking.compare(made, program, model, tuple(args), kwargs)
            found = Exported(made, compared, error)
    if path is not None:
        found.save(path)
    return found


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """``model`` in eval mode; afterwards each of its modules is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's own remarks: on torchvision, on a type of its own, on example sizes of 1."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._export")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _free(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Every size of every tensor free, if the module allows; by the names of forward's arguments."""
    given = inspect.signature(model.forward).bind(*args, **kwargs).arguments

    def sizes(value: Any) -> Any:
        return dict.fromkeys(range(value.dim()), torch.export.Dim.AUTO) if isinstance(value, Tensor) else None

    return {name: pytree.tree_map(sizes, value) for name, value in given.items()}


def _check(program: Any, free: bool) -> None:
    """Refuse layers that ONNX has no operator for and, where all should be free, fixed sizes."""
    for node in program.graph.nodes:
        if node.target is not LAYER:
            continue
        arguments = dict(zip(ARGUMENTS, node.args, strict=False)) | node.kwargs
        where = _place(node)
        if why := refused(arguments):
            raise Unsupported(f"{where}: ONNX has no operator for {why}")
        x = arguments["tensors"][0].meta["val"]
        for size, name in zip(x.shape, ("steps", "sequences"), strict=False):
            if free and not checking.symbols(size):
                raise ValueError(
                    f"args: expected a free number of {name}, and {where} has {size}: an example size of 1 "
                    "or the module fixes it; dynamic_shapes= says which sizes are free"
                )


def _place(node: Any) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0] or "model") if stack else "model"


def _names(model: nn.Module) -> list[str] | None:
    if isinstance(model, LSTM):
        return ["y", "h_n", "c_n"]
    return ["y", "h_n"] if isinstance(model, RNN) else None


def _converted(program: Any, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> Any:
    """The ONNX program, with the weights in ONNX's order."""
    import onnx_ir
    import onnxscript.optimizer

    made = torch.onnx.export(
        program,
        custom_translation_table=translations(),
        input_names=inputs,
        output_names=outputs,
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    onnxscript.optimizer.fold_constants(made.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    onnxscript.optimizer.remove_unused_nodes(made.model)
    graph, sizes = made.model.graph, _sizes(program)
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for each in (made.model, graph, *graph, *values):
        each.metadata_props.clear()  # traces of the stack, with the paths of this machine
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_named(dim, sizes) for dim in value.shape])
    return made


def _sizes(program: Any) -> dict[str, str]:
    """What torch's symbols are called in the model: T and N, further ones as torch calls them."""
    found: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.target is LAYER:
            x = (dict(zip(ARGUMENTS, node.args, strict=False)) | node.kwargs)["tensors"][0].meta["val"]
            for size, name in zip(x.shape, "TN", strict=False):
                own = checking.symbols(size)
                if len(own) == 1 and name not in found.values():
                    found.setdefault(str(own.pop()), name)
    return found


def _named(dim: Any, names: dict[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    text = getattr(dim, "value", None)
    if text is None or text.isdigit():  # torch writes a size that turned out to be fixed as a name
        return None if text is None else int(text)
    return re.sub(r"\w+", lambda word: names.get(word[0], word[0]), text)
