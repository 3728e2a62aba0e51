"""Replaces torch's LSTM and RNN by undertow's: in one model (``convert``), or in the process (``patch``)."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TypeVar

import torch
from torch.nn.utils import parametrize

from undertow.nn import LSTM, RNN
from undertow.nn.module import alive

Model = TypeVar("Model", bound=torch.nn.Module)

OURS: dict[type, type] = {torch.nn.LSTM: LSTM, torch.nn.RNN: RNN}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}


def convert(model: Model, *, back: bool = False) -> Model:
    """Replace every torch.nn.LSTM and torch.nn.RNN in a model by undertow's, in place.

    A module stays the same object and only changes its class. So it keeps everything it holds: its
    parameters, which an optimizer may refer to, its hooks, parametrizations and training mode.

    Three kinds of modules stay as they are: subclasses of nn.LSTM and nn.RNN, because their own methods would
    be lost; quantised modules, which are no nn.LSTM; and TorchScript.

    Args:
        model: any module; it may itself be an nn.LSTM.
        back: replace undertow's modules by torch's instead.

    Returns:
        The same model.

    Raises:
        TypeError: ``model`` is not a torch.nn.Module.
        ValueError: ``back`` is true and a module has options that torch's modules do not have. The model is
            unchanged.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    classes = THEIRS if back else OURS
    for name, module in model.named_modules():
        if back and getattr(module, "_options", None) is not None:
            raise ValueError(
                f"model: torch's modules have no such options: {name or 'it'!r} is {module}; "
                "nothing was changed"
            )
    count = alive.discard if back else alive.add
    for module in model.modules():
        kind = type(module)
        if kind in classes:
            module.__class__ = classes[kind]
            count(module)
        elif parametrize.is_parametrized(module) and kind.__bases__[0] in classes:
            # torch has given the module its own class, which holds the parametrized weights as properties
            own = {key: a for key, a in vars(kind).items() if key not in ("__dict__", "__weakref__")}
            module.__class__ = type(kind.__name__, (classes[kind.__bases__[0]],), own)
            count(module)
    return model


@contextmanager
def patch() -> Iterator[None]:
    """Replace torch.nn.LSTM and torch.nn.RNN by undertow's within a ``with`` block.

    This serves programs that do not know undertow::

        with undertow.patch():
            model = Model()  # its nn.LSTM are undertow.LSTM

    The patch also replaces names in loaded modules that ``from torch.nn import LSTM`` has bound, and the base
    of classes that were derived from nn.LSTM before: their instances run on undertow's kernels within the
    block. Afterwards names and bases are as before. Objects made inside stay undertow's: modules, classes
    derived from nn.LSTM, and names in modules that were imported inside.

    undertow's classes are subclasses of torch's. So ``isinstance(module, torch.nn.LSTM)`` holds inside and
    outside, and a module that was pickled inside loads outside.

    The patch acts on the whole process with all its threads. Nested patches, and patches of several threads,
    last until the last one ends.

    The patch does not reach earlier references that are not global names of a module, such as
    ``{"lstm": torch.nn.LSTM}``. Import that module inside the block (``python -m undertow.run`` does so), or
    use ``convert``. A torch.nn.LSTM that was made before is, within the block, no instance of
    torch.nn.LSTM and cannot be pickled.

    Yields:
        None.
    """
    _patch.begin()
    try:
        yield
    finally:
        _patch.end()


class _Patch:
    """The patch of this process: the number of blocks that hold it, and how to undo it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.undo = ExitStack()

    def begin(self) -> None:
        with self.lock:
            if self.holders == 0:
                with ExitStack() as undo:
                    _rename(undo)
                    for theirs, ours in OURS.items():
                        _derive_anew(theirs, ours, undo)
                    self.undo = undo.pop_all()
            self.holders += 1

    def end(self) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                self.undo.close()


_patch = _Patch()


def _rename(undo: ExitStack) -> None:
    """Let every global name for torch's classes, outside undertow, refer to ours."""
    modules = [m for m in list(sys.modules.values()) if isinstance(m, ModuleType)]
    for names in [vars(m) for m in modules if m.__name__.split(".")[0] != "undertow"]:
        for name, value in list(names.items()):
            if type(value) is type and value in OURS:
                names[name] = OURS[value]
                undo.callback(_name_back, names, name, value)


def _name_back(names: dict[str, object], name: str, theirs: type) -> None:
    if names.get(name) is OURS[theirs]:  # the program may have set the name since
        names[name] = theirs


def _derive_anew(theirs: type, ours: type, undo: ExitStack) -> None:
    """Let the classes derived from ``theirs`` derive from ``ours``."""
    derived: type
    for derived in theirs.__subclasses__():
        if derived is not ours:
            undo.callback(_set_bases, derived, derived.__bases__)
            _set_bases(derived, tuple(ours if base is theirs else base for base in derived.__bases__))


def _set_bases(kind: type, bases: tuple[type, ...]) -> None:
    kind.__bases__ = bases
