"""The modules LSTM and RNN, their options, and the conversion of torch's modules."""

from undertow.nn.module import LSTM as LSTM
from undertow.nn.module import RNN as RNN

# Pickles and graphs name a class by its module. This name stays even if the files below move.
for _class in (LSTM, RNN):
    _class.__module__ = __name__
