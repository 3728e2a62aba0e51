"""The record of a layer's call, as tests make it."""

from undertow.kernels.call import EVEN, Call


def call_of(cell, x, states, weights, ragged=EVEN, **more):
    """``states``: h_0 and, LSTM, c_0, or none; ``weights``: four or five of each direction."""
    h_0, c_0 = (*states, None, None)[:2]
    whole = [(*each, *[None] * (5 - len(each))) for each in weights]
    return Call(cell, x, h_0, c_0, whole, ragged, **more)
