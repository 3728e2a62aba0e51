"""Lets torch.compile take our modules into its graphs.

Dynamo, the part of torch.compile that reads Python, leaves every nn.RNN and nn.LSTM out of its graphs, and
refuses them with ``fullgraph=True``: torch's operators for them would become T separate steps. Our operator
stays one node (``kernels.operators``). So this file sets torch's switch ``allow_rnn`` for our modules alone.
Older versions of torch do not have the switch; they leave our modules out, too.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

_BUILDER = "torch._dynamo.variables.builder"


def admit(ours: Callable[[Any], bool]) -> None:
    """Let dynamo take some modules into its graphs, from now on. This does not import dynamo.

    Args:
        ours: tells whether dynamo may take a module.
    """
    if _BUILDER in sys.modules:
        _patch(sys.modules[_BUILDER], ours)
    else:
        sys.meta_path.insert(0, _AfterImport(ours))


class _AfterImport(MetaPathFinder):
    """Patches dynamo's module when a program imports it: importing it takes a second, and few need it."""

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
