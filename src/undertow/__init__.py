"""undertow: the LSTM you can see through, at full speed.

Each public name is loaded when it is first used, so ``import undertow`` needs neither torch nor the
command line and stays fast. ``LSTM``, ``RNN``, ``convert``, ``patch``, ``trace``, ``load_trace`` and
``FlowMonitor`` need torch. ``plots`` needs matplotlib. ``diagnose``, ``doctor``, ``equations``, ``flow`` and
``problems`` need only NumPy. ``palette`` needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow import doctor as doctor
    from undertow import equations as equations
    from undertow import flow as flow
    from undertow import hardware as hardware
    from undertow import palette as palette
    from undertow import plots as plots
    from undertow import problems as problems
    from undertow.doctor import diagnose as diagnose
    from undertow.nn import LSTM as LSTM
    from undertow.nn import RNN as RNN
    from undertow.nn.convert import convert as convert
    from undertow.nn.convert import patch as patch
    from undertow.tracing import Trace as Trace
    from undertow.tracing import load_trace as load_trace
    from undertow.tracing import trace as trace
    from undertow.tracing.monitor import FlowMonitor as FlowMonitor

__version__ = "0.1.0"

# public name -> module that defines it; a module's own name stands for the module itself
_PUBLIC = {
    "FlowMonitor": "undertow.tracing.monitor",
    "LSTM": "undertow.nn",
    "RNN": "undertow.nn",
    "Trace": "undertow.tracing",
    "convert": "undertow.nn.convert",
    "diagnose": "undertow.doctor",
    "doctor": "undertow.doctor",
    "equations": "undertow.equations",
    "flow": "undertow.flow",
    "hardware": "undertow.hardware",
    "load_trace": "undertow.tracing",
    "palette": "undertow.palette",
    "patch": "undertow.nn.convert",
    "plots": "undertow.plots",
    "problems": "undertow.problems",
    "trace": "undertow.tracing",
}
__all__ = [
    "LSTM",
    "RNN",
    "FlowMonitor",
    "Trace",
    "__version__",
    "convert",
    "diagnose",
    "doctor",
    "equations",
    "flow",
    "hardware",
    "load_trace",
    "palette",
    "patch",
    "plots",
    "problems",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    value = module if module.__name__ == f"undertow.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
