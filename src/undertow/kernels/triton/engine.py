"""The engine on NVIDIA GPUs: the Triton kernels for torch tensors.

It serves the LSTM without projection, up to 512 units, in float32, float16 and bfloat16, with all tensors of
one dtype, and every ``Variant``. The products with W, and those of the weights' gradients, are torch's.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from undertow.kernels import tensors
from undertow.kernels.call import PLAIN, Call, Variant
from undertow.kernels.engine import Outputs
from undertow.kernels.node import Gradients, Kept, KernelEngine
from undertow.kernels.tensors import features, made_plain
from undertow.kernels.triton import device, passes, rules
from undertow.kernels.triton.rows import Rows

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MARKS = ("mask", "reset")
NORMS = ("gain_x", "gain_h", "gain_c", "bias_c")
TRAINED = ("reset_h", "reset_c", "peepholes", *NORMS)  # the fields of a variant that have gradients
COMPUTED = (*MARKS, *TRAINED, "recurrent", "zoneout_h", "zoneout_c")
INSTALLED = find_spec("triton") is not None and torch.version.hip is None
DEVICES = ["cuda"]  # tests add "cpu", where Triton's interpreter runs the kernels


class Triton(KernelEngine):
    """Runs the kernels of ``forward`` and ``backward``, both directions at once."""

    in_time = True

    def serves(self, call: Call) -> bool:
        """See ``Engine.serves``. cuDNN keeps plain calls that nobody watches, where ``rules`` says so."""
        if call.x.device.type not in DEVICES or not self.computes(call):
            return False
        plain = call.variant is PLAIN and call.ragged.lengths is None and call.recording is None
        return not plain or self.is_faster(call.x, call.H, call.N, call.ragged.batch_sizes is not None)

    def computes(self, call: Call) -> bool:
        """Return whether there are kernels for a call on a GPU."""
        x = call.x
        return (
            self.has_kernel(call)
            and x.numel() > 0
            and all(t is None or (tensors.is_plain(t) and t.device == x.device) for t in call.tensors)
            and not (tensors.transformed() or torch._C._is_tracing())
        )

    def knows(self, cell: str, H: int, x: Tensor) -> bool:
        """Return whether there are kernels for a cell of so many units, for numbers as those of x."""
        return (
            INSTALLED
            and device.is_capable(x.device)
            and cell == "lstm"
            and H <= rules.LARGEST
            and _dtype(x) in DTYPES
        )

    def is_faster(self, x: Tensor, H: int, N: int, packed: bool) -> bool:
        """Return whether the kernels, and not cuDNN, should compute a plain call of such a size.

        Args:
            x: the input.
            H: units.
            N: sequences.
            packed: whether x holds packed rows.
        """
        return rules.ours(H, N, _dtype(x).itemsize, packed)

    def why_not(self, call: Call) -> str:
        """See ``KernelEngine.why_not``."""
        return self._reason(call) or "its tensors are of a kind that the kernels do not take"

    def has_kernel(self, call: Call) -> bool:
        """Return whether there is a kernel for such a call, apart from the kind of its tensors' memory."""
        return INSTALLED and self._reason(call) is None

    def _reason(self, call: Call) -> str | None:
        x, variant = call.x, call.variant
        if not device.is_capable(x.device):
            return "GPUs older than Ampere (compute capability 8.0) have no kernel"
        if call.cell != "lstm":
            return "the plain RNN has no kernel for a GPU"
        if call.weights[0][4] is not None:
            return "projections (proj_size) have no kernel for a GPU"
        if x.dtype not in DTYPES:
            return f"{x.dtype} has no kernel for a GPU"
        if call.H > rules.LARGEST:
            return f"{call.H} units have no kernel for a GPU, which has them up to {rules.LARGEST}"
        for name, t in zip(Variant._fields[:-1], variant[:-1], strict=True):
            if t is None:
                continue
            if name not in COMPUTED or (t.requires_grad and name not in TRAINED):
                return f"{name} as it is given has no kernel for a GPU"
        for t in call.tensors:
            if t is not None and t.dtype is not x.dtype and t.dtype is not torch.bool:
                return f"tensors of {x.dtype} and of {t.dtype} have no kernel for a GPU"
        return None

    def infer(self, call: Call) -> Outputs:
        """See ``KernelEngine.infer``."""
        return passes.forward(call, taped=False)[0]

    def forward(self, call: Call) -> tuple[Outputs, Kept]:
        """See ``KernelEngine.forward``. It keeps y and what ``passes.forward`` returns."""
        outputs, tape = passes.forward(call, taped=True)
        return outputs, (outputs[0], *tape)

    def backward(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> Gradients:
        """See ``KernelEngine.backward``."""
        return passes.Backward(call, kept, douts).gradients(wanted)

    def shown(self, call: Call, kept: Kept) -> Kept:
        """See ``KernelEngine.shown``: y, then what is kept of each direction, [T,N,...] or packed rows."""
        rows, (y, *tape) = Rows.of(call), kept
        return y, *(rows.shaped(each[d]) for d in range(call.D) for each in tape)

    def step_gradients(
        self, call: Call, kept: Kept, douts: Sequence[Tensor | None], d: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See ``KernelEngine.step_gradients``: of what ``shown`` gave, and in the order of time."""
        y, *tapes = kept
        dy, *dfinals = douts
        each, D = len(tapes) // call.D, call.D
        one = _of_direction(call, d)
        rows = Rows.of(one)
        of_rows = [rows.flat(t) for t in (features(y, d, D), *tapes[d * each : (d + 1) * each])]
        ends = [None if f is None else made_plain(f)[d : d + 1] for f in dfinals]
        heard = None if dy is None else features(made_plain(dy), d, D)
        back = passes.Backward(one, of_rows, (heard, *ends), steps=True, reverse=d == 1)
        assert back.dsteps is not None
        dgates = rows.shaped(back.dgates[0].view(-1, 4, call.H))
        dh, dc = (
            torch.cat((start[0] if rows.packed else start, rows.shaped(steps[0])))
            for start, steps in zip((back.dh_0, back.dc_0), back.dsteps, strict=True)
        )
        return dgates, dh, dc


ENGINE = Triton()


def _dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a call with this x is computed."""
    if tensors.autocasts(x) and x.dtype is not torch.float64:
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def _of_direction(call: Call, d: int) -> Call:
    """Return one direction of a call as a call of its own, whose kernels run it with ``reverse=d == 1``."""
    states = [None if s is None else s[d : d + 1] for s in (call.h_0, call.c_0)]
    variant = call.variant
    if variant is not PLAIN:
        each = zip(Variant._fields[:-1], variant[:-1], strict=True)
        own = [t if t is None or n in MARKS else t[d : d + 1] for n, t in each]
        variant = Variant._make([*own, variant.coupled])
    return call._replace(
        h_0=states[0], c_0=states[1], weights=call.weights[d : d + 1], variant=variant, recording=None
    )
