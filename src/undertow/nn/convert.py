"""torch's LSTMs and RNNs become undertow's: those of a model (``convert``), or all there are (``patch``)."""

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
    """Make every torch.nn.LSTM and torch.nn.RNN in ``model`` ours, in place, and return ``model``.

    A module stays the same object and only changes its class, so all it holds stays: its parameters, which an
    optimizer may know already, hooks, parametrizations, training mode. ``model`` may itself be an nn.LSTM.
    ``back`` makes ours torch's again.

    Left alone are subclasses of nn.LSTM and nn.RNN, whose own methods would be lost, quantised modules, which
    are no nn.LSTM, and TorchScript. Raises TypeError where ``model`` is no module, and ValueError where a
    module to be made torch's has options that torch's does not have.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    classes = THEIRS if back else OURS
    for name, module in model.named_modules():
        if back and getattr(module, "_options", None) is not None:
            raise ValueError(
                f"model: torch has no {module}, as which {name or 'it'!r} computes; none was changed"
            )
    count = alive.discard if back else alive.add
    for module in model.modules():
        kind = type(module)
        if kind in classes:
            module.__class__ = classes[kind]
            count(module)
        elif parametrize.is_parametrized(module) and kind.__bases__[0] in classes:
            # torch has given it a class of its own, that holds the parametrized weights as properties
            own = {key: a for key, a in vars(kind).items() if key not in ("__dict__", "__weakref__")}
            module.__class__ = type(kind.__name__, (classes[kind.__bases__[0]],), own)
            count(module)
    return model


@contextmanager
def patch() -> Iterator[None]:
    """While it lasts, torch.nn.LSTM and torch.nn.RNN are ours, for programs that know nothing of undertow.

    ``with undertow.patch(): model = Whatever()``. So are, in every module that is loaded, the names that
    ``from torch.nn import LSTM`` has bound, and the base of classes that were derived from nn.LSTM before:
    their instances run on our kernels until the end. Then all is as it was; but what was made inside stays
    ours: modules, classes with nn.LSTM as their base, names that modules loaded inside have bound.
    Ours being subclasses of torch's, ``isinstance(module, torch.nn.LSTM)`` holds inside and outside, and what
    was pickled inside loads outside, as ours.

    For the whole process, all its threads; nested, or begun in several threads, it lasts until the last ends.

    Not reached is what was there before and is no name of a module, as in ``{"lstm": torch.nn.LSTM}``: make
    the patch before the import (``python -m undertow.run`` does), or ``convert`` the model. A torch.nn.LSTM
    made before is, inside, no instance of what torch.nn.LSTM then is, and cannot be pickled by that name.
    """
    _patch.begin()
    try:
        yield
    finally:
        _patch.end()


class _Patch:
    """The patch of this process: how many hold it, and what undoes it."""

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
    """Every name of theirs in a loaded module that is not undertow's becomes one of ours."""
    modules = [m for m in list(sys.modules.values()) if isinstance(m, ModuleType)]
    for names in [vars(m) for m in modules if m.__name__.split(".")[0] != "undertow"]:
        for name, value in list(names.items()):
            if type(value) is type and value in OURS:
                names[name] = OURS[value]
                undo.callback(_name_back, names, name, value)


def _name_back(names: dict[str, object], name: str, theirs: type) -> None:
    if names.get(name) is OURS[theirs]:  # and not what the program has put there since
        names[name] = theirs


def _derive_anew(theirs: type, ours: type, undo: ExitStack) -> None:
    """Classes derived from ``theirs`` become derived from ``ours``."""
    derived: type
    for derived in theirs.__subclasses__():
        if derived is not ours:
            undo.callback(_set_bases, derived, derived.__bases__)
            _set_bases(derived, tuple(ours if base is theirs else base for base in derived.__bases__))


def _set_bases(kind: type, bases: tuple[type, ...]) -> None:
    kind.__bases__ = bases
