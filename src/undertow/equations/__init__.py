"""The LSTM and the plain RNN as the papers write them: NumPy, float64, forward and backward.

This package is the truth that everything faster is tested against, so it is written to be read:
``lstm.py`` and ``rnn.py`` hold one layer, ``network.py`` the error and layers in a stack.

    T steps, N sequences, C inputs, H hidden units, K outputs; ⊙ is the elementwise product.
    x_t [N,C]   input               W  weight_ih [4H,C]
    h_t [N,H]   hidden state        U  weight_hh [4H,H]
    c_t [N,H]   cell state          b  bias      [4H]    (torch's bias_ih + bias_hh)
    E           the error           da stands for ∂E/∂a

Each weight stacks four blocks of H rows, one per gate: input i, forget f, input modulation g,
output o. Arrays of any float type are accepted and taken to float64. A sequence may be shorter
than T (``lengths`` [N]): past its own end h and c are carried unchanged, y is zero and so is dx,
whatever the padding holds. ``reverse`` runs from each sequence's own end back to t = 0.

Sources: Hochreiter & Schmidhuber 1997, Neural Computation 9(8) (the LSTM); Gers, Schmidhuber &
Cummins 2000, Neural Computation 12(10) (its forget gate); Elman 1990, Cognitive Science 14(2) (the
plain RNN); Werbos 1990, Proceedings of the IEEE 78(10) (back-propagation through time).
docs/equations.md derives the backward.
"""

from undertow.equations.common import outputs, sum_over_steps
from undertow.equations.lstm import lstm, lstm_backward, lstm_step, lstm_step_backward, sigmoid
from undertow.equations.network import (
    Layer,
    NetworkGradients,
    cross_entropy,
    cross_entropy_backward,
    network,
    network_backward,
    softmax,
)
from undertow.equations.rnn import rnn, rnn_backward, rnn_step
from undertow.layout import gate  # public here too, for readers of weights
from undertow.tape import Gradients, RNNGradients, RNNTape, Tape

__all__ = [
    "Gradients",
    "Layer",
    "NetworkGradients",
    "RNNGradients",
    "RNNTape",
    "Tape",
    "cross_entropy",
    "cross_entropy_backward",
    "gate",
    "lstm",
    "lstm_backward",
    "lstm_step",
    "lstm_step_backward",
    "network",
    "network_backward",
    "outputs",
    "rnn",
    "rnn_backward",
    "rnn_step",
    "sigmoid",
    "softmax",
    "sum_over_steps",
]
