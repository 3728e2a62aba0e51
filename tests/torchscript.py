"""For tests that need TorchScript, on purpose or because torch's forward mode and inductor use it."""

import pytest

# torch warns that it is deprecated: a DeprecationWarning up to torch 2.13, a FutureWarning since.
torchscript = pytest.mark.filterwarnings(r"ignore:`torch\.jit\.\w+` is deprecated")
