"""The modules: LSTM and RNN as torch knows them, what may be added to them, and torch's made ours."""

from undertow.nn.module import LSTM as LSTM
from undertow.nn.module import RNN as RNN

# Pickles and graphs name a class by its module: this one, which stays where the files below it may move.
for _class in (LSTM, RNN):
    _class.__module__ = __name__
