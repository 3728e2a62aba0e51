"""How torch.compile comes to take our modules into its graphs.

Dynamo, which reads Python for torch.compile, leaves every module that is an nn.RNN or nn.LSTM out of its
graphs (with ``fullgraph=True`` it refuses), because torch's operators for them are taken apart into T steps.
Ours are not (``kernels.operators``), so for them, and no other, the switch that torch has for that is set.
Where torch has none yet, they are left out as nn.LSTM is.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

_BUILDER = "torch._dynamo.variables.builder"


def admit(ours: Callable[[Any], bool]) -> None:
    """From now on dynamo takes every module for which ``ours`` is true. It is not imported for that."""
    if _BUILDER in sys.modules:
        _patch(sys.modules[_BUILDER], ours)
    else:
        sys.meta_path.insert(0, _AfterImport(ours))


class _AfterImport(MetaPathFinder):
    """Patches dynamo's module once it has been imported, which takes a second and few programs need."""

    def __init__(self, ours: Callable[[Any], bool]) -> None:
        self._ours = ours

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec: Any = find_spec(fullname)
        run = spec.loader.exec_module

        def run_and_patch(module: Any) -> None:
            run(module)
            _patch(module, self._ours)

        spec.loader.exec_module = run_and_patch
        return spec


def _patch(builder: Any, ours: Callable[[Any], bool]) -> None:
    wrap, config = builder.VariableBuilder.wrap_module, builder.config
    if not hasattr(config, "allow_rnn"):
        return

    def wrap_module(self: Any, value: Any) -> Any:
        if not ours(value):
            return wrap(self, value)
        with config.patch(allow_rnn=True):
            return wrap(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
