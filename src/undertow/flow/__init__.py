"""Where gradients go: the exact mathematics of gradient flow through a recorded layer. NumPy alone.

Everything here is computed from what a forward pass left behind, a ``Tape`` (or a plain RNN's
``RNNTape``), and from ``weight_hh``. Three different gradients are written ∂c_t/∂c_{t−1}:

1. ``carousel``: along the cell alone, diag(f_t). The constant error carousel of Hochreiter & Schmidhuber.
2. ``step_terms``: its four terms with o_{t−1} held fixed. They are exact for one step. Their product over
   several steps, the ``textbook_chain``, is *not* the derivative; ``departure`` measures the difference.
3. ``state_jacobian`` and ``state_product``: the whole state, ∂(h_t,c_t)/∂(h_{t−1},c_{t−1}). This is what
   back-propagation and finite differences give. ``cell_product`` is the derivative of c alone.

Built on these: ``gradient_norms`` by step, ``gradient_by_lag``, ``memory_horizon``, ``lyapunov`` exponents,
``gate_saturation`` and ``unit_health``. ``summary`` puts all of it into a few numbers.

    >>> import numpy as np
    >>> from undertow import equations, flow
    >>> rng = np.random.default_rng(0)
    >>> W, U, zero = rng.normal(size=(32, 3)), rng.normal(size=(32, 8)), np.zeros((4, 8))
    >>> y, tape = equations.lstm(rng.normal(size=(50, 4, 3)), zero, zero, W, U)
    >>> flow.gradient_by_lag(tape, U, dh=np.ones((4, 8))).log_dc_norm.shape  # [lag, N]
    (51, 4)

Conventions. States have indices 0 to T as in the tape: 0 is the initial state, t the state after t steps
in the order of processing (a reverse layer's state t stands before time T-1-t). "From t to s" are the steps
t+1 to s; as array entries, t to s-1. A matrix ∂a/∂b has a's units in its rows and b's in its columns.
Results are float64 whatever the tape holds. Padding is never read. Past a sequence's own end the state is
carried unchanged, so a step's Jacobian is the identity there; counts and averages leave such steps out.

docs/gradient-flow.md tells the story with pictures.
"""

from undertow.flow.jacobians import (
    Carousel,
    StepTerms,
    carousel,
    cell_product,
    state_jacobian,
    state_product,
    step_terms,
    textbook_chain,
)
from undertow.flow.lags import (
    Departure,
    GradientByLag,
    GradientNorms,
    MemoryHorizon,
    departure,
    gradient_by_lag,
    gradient_norms,
    lower_median,
    memory_horizon,
)
from undertow.flow.lyapunov import Lyapunov, lyapunov
from undertow.flow.summary import Summary, error_at, last_error, summary
from undertow.flow.units import GateSaturation, UnitHealth, gate_saturation, unit_health

__all__ = [
    "Carousel",
    "Departure",
    "GateSaturation",
    "GradientByLag",
    "GradientNorms",
    "Lyapunov",
    "MemoryHorizon",
    "StepTerms",
    "Summary",
    "UnitHealth",
    "carousel",
    "cell_product",
    "departure",
    "error_at",
    "gate_saturation",
    "gradient_by_lag",
    "gradient_norms",
    "last_error",
    "lower_median",
    "lyapunov",
    "memory_horizon",
    "state_jacobian",
    "state_product",
    "step_terms",
    "summary",
    "textbook_chain",
    "unit_health",
]
