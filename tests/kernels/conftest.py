"""For the tests of the paths: what the native kernels were called with."""

import pytest

from undertow.kernels import cpu


@pytest.fixture
def kernel_calls(monkeypatch):
    """A list that receives (name, arguments) of each forward and backward of the native kernels."""
    calls, kernel = [], cpu.native
    assert kernel is not None, "the native extension was not built"

    class Watched:
        def __getattr__(self, name):
            function = getattr(kernel, name)
            if not name.endswith(("forward", "backward")):
                return function
            return lambda *args: (calls.append((name, args)), function(*args))[1]

    monkeypatch.setattr(cpu, "native", Watched())
    return calls
