"""undertow: the LSTM you can see through, at full speed.

Each public name is loaded when it is first used, so ``import undertow`` needs neither torch nor the
command line and stays fast. ``LSTM``, ``RNN``, ``convert``, ``patch``, ``load``, ``trace`` and
``FlowMonitor`` need torch. ``onnx`` needs undertow[onnx]. ``plots`` needs matplotlib. ``diagnose``,
``doctor``, ``equations``, ``flow``, ``hardware``, ``load_trace``, ``networks``, ``problems`` and ``stream``
need only NumPy. ``palette`` needs nothing. ``train`` and ``load_run`` need what the command line needs:
undertow[app].
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undertow import doctor as doctor
    from undertow import equations as equations
    from undertow import flow as flow
    from undertow import hardware as hardware
    from undertow import networks as networks
    from undertow import onnx as onnx
    from undertow import palette as palette
    from undertow import plots as plots
    from undertow import problems as problems
    from undertow import stream as stream
    from undertow.app.api import Run as Run
    from undertow.app.api import load_run as load_run
    from undertow.app.api import train as train
    from undertow.app.errors import UserError as UserError
    from undertow.doctor import diagnose as diagnose
    from undertow.nn import LSTM as LSTM
    from undertow.nn import RNN as RNN
    from undertow.nn.convert import convert as convert
    from undertow.nn.convert import patch as patch
    from undertow.nn.loaded import load as load
    from undertow.tracing.monitor import FlowMonitor as FlowMonitor
    from undertow.tracing.recorder import trace as trace
    from undertow.tracing.traced import Trace as Trace
    from undertow.tracing.traced import load_trace as load_trace

__version__ = "0.1.0"

# public name -> module that defines it; a module's own name stands for the module itself
_PUBLIC = {
    "FlowMonitor": "undertow.tracing.monitor",
    "LSTM": "undertow.nn",
    "RNN": "undertow.nn",
    "Run": "undertow.app.api",
    "Trace": "undertow.tracing.traced",
    "UserError": "undertow.app.errors",
    "convert": "undertow.nn.convert",
    "diagnose": "undertow.doctor",
    "doctor": "undertow.doctor",
    "equations": "undertow.equations",
    "flow": "undertow.flow",
    "hardware": "undertow.hardware",
    "load": "undertow.nn.loaded",
    "load_run": "undertow.app.api",
    "load_trace": "undertow.tracing.traced",
    "networks": "undertow.networks",
    "onnx": "undertow.onnx",
    "palette": "undertow.palette",
    "patch": "undertow.nn.convert",
    "plots": "undertow.plots",
    "problems": "undertow.problems",
    "stream": "undertow.stream",
    "trace": "undertow.tracing.recorder",
    "train": "undertow.app.api",
}
__all__ = [
    "LSTM",
    "RNN",
    "FlowMonitor",
    "Run",
    "Trace",
    "UserError",
    "__version__",
    "convert",
    "diagnose",
    "doctor",
    "equations",
    "flow",
    "hardware",
    "load",
    "load_run",
    "load_trace",
    "networks",
    "onnx",
    "palette",
    "patch",
    "plots",
    "problems",
    "stream",
    "trace",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'undertow' has no attribute {name!r}")
    try:
        module = import_module(_PUBLIC[name])
    except ModuleNotFoundError as missing:
        extra = _extra(name, str(missing.name))
        if extra is None:
            raise
        hint = f"undertow.{name} needs {missing.name}: pip install 'undertow[{extra}]'"
        raise ModuleNotFoundError(hint, name=missing.name) from None
    value = module if module.__name__ == f"undertow.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def _extra(name: str, missing: str) -> str | None:
    """Return the extra of undertow that installs a missing library; None if no extra does."""
    if missing.startswith("undertow"):
        return None
    if _PUBLIC[name].startswith("undertow.app"):
        return "app"
    return "onnx" if name == "onnx" else {"torch": "torch", "matplotlib": "plots"}.get(missing)


def __dir__() -> list[str]:
    return __all__
