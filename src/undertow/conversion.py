"""``undertow.convert``: any model's torch LSTMs and RNNs become undertow's, and back."""

from typing import TypeVar

import torch
from torch.nn.utils import parametrize

from undertow.nn import LSTM, RNN

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
    for module in model.modules():
        kind = type(module)
        if kind in classes:
            module.__class__ = classes[kind]
        elif parametrize.is_parametrized(module) and kind.__bases__[0] in classes:
            # torch has given it a class of its own, that holds the parametrized weights as properties
            own = {key: a for key, a in vars(kind).items() if key not in ("__dict__", "__weakref__")}
            module.__class__ = type(kind.__name__, (classes[kind.__bases__[0]],), own)
    return model
