"""LSTM and RNN, torch modules."""

import torch


class LSTM(torch.nn.LSTM):
    pass


class RNN(torch.nn.RNN):
    pass
