"""What an engine is: it computes a layer's call. ``engines`` has the table of all engines."""

from torch import Tensor

from undertow.kernels.call import Call

Outputs = tuple[Tensor, ...]  # y, h_n and of the LSTM c_n


class Engine:
    """Computes calls. An engine with kernels of its own is a ``node.KernelEngine``."""

    def serves(self, call: Call) -> bool:
        """Return whether this engine computes ``call``."""
        raise NotImplementedError

    def layer(self, call: Call) -> Outputs:
        """Return the outputs of ``call``, with their graph if gradients are asked for."""
        raise NotImplementedError
