"""A layer of the equations for the kernels of a GPU, which Triton's interpreter runs on the CPU."""

import torch

from calls import call_of
from layer_of_variants import SIZE, TOLERANCE, Layer
from undertow.kernels import triton
from undertow.kernels.call import Ragged

OF_HALF = 4e-3, 2e-2  # 11 bits of a number, seven steps; dot products in float16 lose what float32 would keep


class TritonLayer(Layer):
    """``layer_of_variants.Layer`` by the engine on a GPU."""

    def __init__(self, options=(), form="even", D=2, dtype=torch.float32, size=SIZE, engine=None, **more):
        if form == "packed":  # whose mask and reset have no layout, and are refused
            options = [name for name in options if name not in ("mask", "reset")]
        super().__init__("lstm", options, form, D, dtype, size)
        self.engine, self.more = engine or triton.ENGINE, more

    def call(self, leaves, weights):
        states = [leaves["h_0"], leaves["c_0"]]
        each = [[W, U, b, torch.zeros_like(b), None] for W, U, b in weights]
        variant = self.variant(leaves)
        return call_of("lstm", leaves["x"], states, each, Ragged(*self.ragged), variant=variant, **self.more)

    def run(self, leaves, weights, steps=None):
        call = self.call(leaves, weights)
        assert self.engine.computes(call), self.engine.why_not(call)
        outputs = self.engine.layer(call)
        assert outputs[0].grad_fn.name() == "_LayerBackward"
        return outputs


TOLERANCE[torch.float16] = OF_HALF
