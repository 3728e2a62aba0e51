"""What people add to the LSTM, as equations: NumPy, float64, forward and backward by hand.

Masks, resets, recurrent dropout, zoneout, layer normalisation, peepholes and coupled gates, alone or in any
combination, for one layer and direction; a ``Variant`` says which. Read ``step.py`` first. With nothing
added, ``lstm`` and ``rnn`` give the same bits as ``equations.lstm`` and ``equations.rnn``.

``reset[t]`` means that step t is the first of a new sequence. Each direction then gives the same as running
each piece by itself. The piece that runs first starts from h_0 and c_0, every later one from reset_h and
reset_c; forward, reset[0] makes the first piece start from reset_h and reset_c too. The reverse direction
crosses the same boundary from t to t−1. A masked step changes nothing: results are those of the sequence
without it.

Sources: Gers & Schmidhuber 2000, IJCNN (peepholes); Greff et al. 2017, IEEE TNNLS 28(10) (coupled gates);
Gal & Ghahramani 2016, NIPS (recurrent dropout); Krueger et al. 2017, ICLR (zoneout; h̃ is made of c̃, not of
c_t); Ba, Kiros & Hinton 2016, arXiv:1607.06450, eqs. 20-22 (layer normalisation, over all 4H at once).
"""

from undertow.equations.variants.lstm import lstm, lstm_backward
from undertow.equations.variants.rnn import rnn, rnn_backward
from undertow.equations.variants.step import lstm_step, lstm_step_backward, normalise, normalise_backward
from undertow.equations.variants.variant import (
    PLAIN,
    RNNVariantGradients,
    RNNVariantTape,
    Variant,
    VariantGradients,
    VariantTape,
)

__all__ = [
    "PLAIN",
    "RNNVariantGradients",
    "RNNVariantTape",
    "Variant",
    "VariantGradients",
    "VariantTape",
    "lstm",
    "lstm_backward",
    "lstm_step",
    "lstm_step_backward",
    "normalise",
    "normalise_backward",
    "rnn",
    "rnn_backward",
]
