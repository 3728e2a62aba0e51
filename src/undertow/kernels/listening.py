"""Which modules are traced in this context, and by whom."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from undertow.kernels.recording import Recording

# Each traced module with a function that starts the recording of a call. That function returns another one,
# which makes the Recording of the next layer. The variable belongs to a context, so calls of other threads
# are not recorded. None: nothing is traced.
traced: ContextVar[dict[torch.nn.Module, Callable[[], Callable[[], "Recording"]]] | None] = ContextVar(
    "undertow.traced", default=None
)

# A token for each open trace of any thread. While the list is empty, calls skip every other check.
_open: list[Any] = []


def watch(modules: dict[torch.nn.Module, Callable[[], Callable[[], "Recording"]]]) -> Any:
    """Record the calls of some modules in this context from now on.

    Args:
        modules: for each module a function that starts the recording of a call, see ``traced``.

    Returns:
        A token for ``unwatch``.
    """
    token = traced.set((traced.get() or {}) | modules)
    _open.append(token)
    return token


def unwatch(token: Any) -> None:
    """End what ``watch`` started.

    Args:
        token: what ``watch`` returned.

    Raises:
        ValueError: this is not the context of ``watch``.
    """
    _open.remove(token)
    traced.reset(token)


def in_backward() -> bool:
    """Return whether this thread runs a backward pass, in which torch.utils.checkpoint repeats calls."""
    return torch._C._current_graph_task_id() != -1


def watches(module: torch.nn.Module) -> bool:
    """Return whether a trace of this context watches the module."""
    return bool(_open) and module in (traced.get() or {})


def listener(module: torch.nn.Module) -> "Callable[[], Recording] | None":
    """Start the recording of a module's call.

    Args:
        module: the module that is called.

    Returns:
        A function that makes the Recording of the next layer; None if no trace watches the module.
    """
    if not _open:
        return None
    if torch.compiler.is_compiling():  # the compiler records a program and computes nothing
        return None
    modules = traced.get()
    return None if modules is None or module not in modules else modules[module]()
