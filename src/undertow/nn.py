"""LSTM and RNN, torch modules: arguments in, one call per layer and direction, results out.

Both are subclasses of torch's own modules, so constructor, parameters, initial values, state_dict,
repr and pickling are torch's. ``forward`` alone is ours, and what it does not recognise it leaves to
torch's forward, to serve or to refuse in torch's words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from undertow import ops

_States = Sequence[Tensor]  # h and, for the LSTM, c
_Weights = list[Any]  # weight_ih, weight_hh, bias_ih, bias_hh, weight_hr; None where absent
_Result = tuple[Any, list[Tensor]]  # y and the final states


class _Recurrent(torch.nn.RNNBase):
    """What LSTM and RNN share: the layout of arguments, and the walk through layers and directions."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As in torch: x [T,N,C], [N,T,C] with batch_first, [T,C] or a PackedSequence, and initial states.

        Returns y in the layout of x with D*H features (D directions; projected D*P) and h_n [L*D,N,H],
        for the LSTM (h_n, c_n). Raises what torch raises where the arguments do not fit the module.
        """
        result = self._run(input, hx)
        if result is None:
            return super().forward(input, hx)
        y, finals = result
        return y, tuple(finals) if self.mode == "LSTM" else finals[0]

    def _run(self, input: Any, hx: Any) -> _Result | None:
        """The results, or None where the arguments are torch's to serve or to refuse."""
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        states = () if hx is None else hx if self.mode == "LSTM" else (hx,)
        if not (isinstance(x, Tensor) and isinstance(states, tuple | list)) or ops.torch_serves(x):
            return None
        # read once: a parametrization may cost, or draw random numbers, each time
        weights = [self._weights(names) for names in self._all_weights]
        if packed:
            return self._run_packed(input, states, weights)
        if x.dim() == 2:
            return self._run_unbatched(x, states, weights)
        return self._run_batched(x, states, weights) if x.dim() == 3 else None

    def _run_batched(self, x: Tensor, states: _States, weights: list[_Weights]) -> _Result | None:
        if self.batch_first:
            x = x.transpose(0, 1)  # [T,N,C]
        if not self._fits(x, states, x.shape[1:2], weights[0][0].dtype):
            return None
        y, finals = self._walk(x, states, weights)
        return y.transpose(0, 1) if self.batch_first else y, finals

    def _run_unbatched(self, x: Tensor, states: _States, weights: list[_Weights]) -> _Result | None:
        if not self._fits(x, states, (), weights[0][0].dtype):
            return None
        y, finals = self._walk(x.unsqueeze(1), [s.unsqueeze(1) for s in states], weights)
        return y.squeeze(1), [s.squeeze(1) for s in finals]

    def _run_packed(self, packed: PackedSequence, states: _States, weights: list[_Weights]) -> _Result | None:
        data, batch_sizes, order, inverse = packed
        N = int(batch_sizes[0])
        if data.dim() != 2 or not self._fits(data, states, (N,), weights[0][0].dtype):
            return None
        if order is not None:
            states = [s.index_select(1, order) for s in states]
        live = torch.arange(N) < batch_sizes.unsqueeze(1)  # [T,N]
        rows = live.view(-1).nonzero().squeeze(1).to(data.device)  # where the packed rows lie in [T*N]
        y, finals = self._walk(_pad(data, rows, batch_sizes, N), states, weights, batch_sizes, rows)
        if inverse is not None:
            finals = [s.index_select(1, inverse) for s in finals]
        return PackedSequence(_pack(y, rows), batch_sizes, order, inverse), finals

    def _fits(self, x: Tensor, states: _States, batch: tuple[int, ...], dtype: torch.dtype) -> bool:
        """Whether x [T,*batch,C] (packed: [rows,C]) and ``states`` [L*D,*batch,·] are sure to suit torch."""
        autocast = x.is_cpu and torch.is_autocast_enabled("cpu")
        if x.shape[-1] != self.input_size or x.shape[0] == 0 or not (x.dtype == dtype or autocast):
            return False
        if not states:
            return True
        blocks, sizes = len(self._all_weights), self._state_sizes()
        return len(states) == len(sizes) and all(
            isinstance(s, Tensor) and s.shape == (blocks, *batch, size) and (s.dtype == dtype or autocast)
            for s, size in zip(states, sizes, strict=True)
        )

    def _state_sizes(self) -> list[int]:
        """Features of h and, for the LSTM, of c."""
        return [self.proj_size or self.hidden_size] + [self.hidden_size] * (self.mode == "LSTM")

    def _walk(
        self,
        x: Tensor,
        states: _States,
        weights: list[_Weights],
        batch_sizes: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """x [T,N,C] through all layers and directions -> y [T,N,D*R], finals [L*D,N,·]."""
        D = 2 if self.bidirectional else 1
        starts = self._starts(x, states)
        finals = []
        for layer in range(self.num_layers):
            ys = []
            for k in range(layer * D, layer * D + D):
                y, *final = self._layer(x, starts[k], weights[k], k % D == 1, batch_sizes)
                ys.append(y)
                finals.append(final)
            x = ys[0] if D == 1 else torch.cat(ys, dim=2)
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = self._drop(x, batch_sizes, rows)
        # also of one: a view in its place could not be detached in place, as people do with states
        return x, [torch.stack(each) for each in zip(*finals, strict=True)]

    def _starts(self, x: Tensor, states: _States) -> list[tuple[Tensor, ...]]:
        """The initial states of each layer and direction, each [N,·]; zero if none are given."""
        if states:
            return list(zip(*(s.unbind(0) for s in states), strict=True))
        sizes = self._state_sizes()
        made = {size: x.new_zeros(x.shape[1], size) for size in set(sizes)}  # shared, for none is written to
        zeros = tuple(made[size] for size in sizes)
        return [zeros] * len(self._all_weights)

    def _drop(self, x: Tensor, batch_sizes: Tensor | None, rows: Tensor | None) -> Tensor:
        """Dropout between layers, drawn in torch's order: for packed input, over the packed rows."""
        if batch_sizes is None or rows is None:
            return dropout(x, self.dropout)
        return _pad(dropout(_pack(x, rows), self.dropout), rows, batch_sizes, x.shape[1])

    def _weights(self, names: list[str]) -> _Weights:
        """The parameters of one layer and direction, or what stands in their place: the tensors that
        parametrizations, pruning or functional_call have put there."""
        held = self._parameters
        found = [held[name] if name in held else getattr(self, name) for name in names]
        biases = found[2:4] if self.bias else [None, None]
        return [*found[:2], *biases, found[-1] if self.proj_size else None]

    def _layer(
        self, x: Tensor, states: _States, weights: _Weights, reverse: bool, batch_sizes: Tensor | None
    ) -> tuple[Tensor, ...]:
        """y [T,N,R] and the final states of one layer and direction."""
        raise NotImplementedError

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """torch.jit.script compiles torch's own module over the same parameters."""
        kind = torch.nn.LSTM if self.mode == "LSTM" else torch.nn.RNN
        twin = kind.__new__(kind)
        twin.__setstate__(self.__getstate__())  # type: ignore[no-untyped-call]
        return twin


class LSTM(_Recurrent, torch.nn.LSTM):
    """torch.nn.LSTM with undertow's kernels: same constructor, parameters, results and errors.

    ``LSTM(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, proj_size=0, device=None, dtype=None)``

    Per layer and direction, with σ the sigmoid and gates stacked in the order i, f, g, o:
    i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(W x_t + U h_{t-1} + b), each with its own W, U, b;
    c_t = i ⊙ g + f ⊙ c_{t-1}; h_t = o ⊙ tanh(c_t), projected h_t = W_hr (o ⊙ tanh(c_t)).

    ``lstm(x, (h_0, c_0))`` -> ``y, (h_n, c_n)``: x [T,N,C] -> y [T,N,D*R]; [N,T,·] with batch_first,
    [T,·] unbatched, or PackedSequence to PackedSequence. h [L*D,N,R], c [L*D,N,H]; zero if not given.
    C input_size, H hidden_size, R proj_size or H, L num_layers, D directions.

    float32 and float64 on the CPU run in the native kernel; ``undertow.ops`` lists what runs elsewhere.
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers, Schmidhuber & Cummins 2000.
    """

    def _layer(
        self, x: Tensor, states: _States, weights: _Weights, reverse: bool, batch_sizes: Tensor | None
    ) -> tuple[Tensor, ...]:
        return ops.lstm(x, *states, *weights, reverse=reverse, batch_sizes=batch_sizes)


class RNN(_Recurrent, torch.nn.RNN):
    """torch.nn.RNN with undertow's kernels: h_t = tanh(W x_t + U h_{t-1} + b), or relu in tanh's place.

    ``RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
    dropout=0.0, bidirectional=False, device=None, dtype=None)``

    ``rnn(x, h_0)`` -> ``y, h_n``, shapes as for ``LSTM``. Elman 1990, Cognitive Science 14(2).
    """

    def _layer(
        self, x: Tensor, states: _States, weights: _Weights, reverse: bool, batch_sizes: Tensor | None
    ) -> tuple[Tensor, ...]:
        phi = self.nonlinearity
        return ops.rnn(x, *states, *weights[:4], nonlinearity=phi, reverse=reverse, batch_sizes=batch_sizes)


def _pad(data: Tensor, rows: Tensor, batch_sizes: Tensor, N: int) -> Tensor:
    """Packed rows -> [T,N,C], zero past each sequence's end."""
    padded = data.new_zeros(len(batch_sizes) * N, data.shape[1])
    return padded.index_copy(0, rows, data).view(len(batch_sizes), N, data.shape[1])


def _pack(y: Tensor, rows: Tensor) -> Tensor:
    """The rows of y [T,N,C] that belong to a sequence, as PackedSequence holds them."""
    return y.reshape(-1, y.shape[2]).index_select(0, rows)
