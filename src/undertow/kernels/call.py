"""What a layer's call may add to the LSTM: see ``undertow.equations.variants`` for what it means."""

from typing import NamedTuple

from torch import Tensor


class Variant(NamedTuple):
    """Of one layer and its D directions; None wherever nothing is added. R is the width of h, P or H."""

    mask: Tensor | None = None  # bool [T,N]; False: the step is passed over, h and c stay as they are
    reset: Tensor | None = None  # bool [T,N]; True: the first step of a new sequence
    reset_h: Tensor | None = None  # [D,N,R], the state that it begins from; None: zero
    reset_c: Tensor | None = None  # [D,N,H]
    recurrent: Tensor | None = None  # [D,N,R], factors of h_{t-1} on its way into the gates
    zoneout_h: Tensor | None = None  # [D,T,N,R], packed [D,rows,R]: the part of h_{t-1} that stays
    zoneout_c: Tensor | None = None  # [D,T,N,H]
    coupled: bool = False  # f = 1 - i
    peepholes: Tensor | None = None  # [D,3,H]: p_i, p_f, p_o
    gain_x: Tensor | None = None  # [D,4H], of layer normalisation: all four or none
    gain_h: Tensor | None = None  # [D,4H]
    gain_c: Tensor | None = None  # [D,H]
    bias_c: Tensor | None = None  # [D,H]


PLAIN = Variant()
