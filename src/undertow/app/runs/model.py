"""The network of every verb that trains: normalise or embed, LSTM or RNN, one linear head."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import undertow
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.dropout import Dropout, dropped
from undertow.app.runs.near import is_near, moved
from undertow.app.runs.objective import Batch
from undertow.app.runs.readouts import Readout, Units, final
from undertow.app.runs.shapes import OF_WINDOW
from undertow.app.runs.windows import Autoregression, Window, window_of, with_window

State = tuple[Tensor, ...]  # (h, c) of the LSTM, (h,) of the RNN; each [layers, N, H]
CELLS = {"lstm": undertow.LSTM, "rnn": undertow.RNN}


def _start_options(config: ModelConfig) -> dict[str, Any]:
    """The initial values of the layers, as options of undertow.LSTM and undertow.RNN."""
    chrono = {"max_lag": config.max_lag} if config.init == "chrono" else {}
    options = {"init": None if config.init == "torch" else config.init} | chrono
    return options if config.forget_bias is None else options | {"forget_bias": config.forget_bias}


def normalise(x: Tensor, centre: Tensor, scale: Tensor, linear: bool = False) -> Tensor:
    """Normalise features.

    The result is linear near the centre and logarithmic far from it: extremes do not drown the rest.

    Args:
        x: Features [...,C].
        centre: The value that becomes 0, [C].
        scale: The distance from the centre that becomes asinh(1), [C].
        linear: Whether extremes stay as they are, as those of sound should.

    Returns:
        asinh((x - centre) / scale), as x; without asinh if ``linear``.
    """
    found = (x - centre) / scale
    return found if linear else torch.asinh(found)


class SequenceModel(nn.Module):
    """Maps sequences to predictions, both in the data's own units.

    The normaliser's centre and scale are buffers, so a saved model needs no other file to read raw values.

    Args:
        config: The sizes and options of the network.
        normalise: Whether to normalise features; symbols are embedded in any case.
    """

    def __init__(self, config: ModelConfig, normalise: bool = True) -> None:
        super().__init__()
        self.config, self.normalise = config, normalise and not config.symbols
        width = config.width if config.symbols else config.inputs
        self.embedding = nn.Embedding(config.symbols, width) if config.symbols else None
        if self.normalise:
            self.register_buffer("centre", torch.zeros(width))  # [C]
            self.register_buffer("scale", torch.ones(width))  # [C]
        dropout = config.dropout if config.num_layers > 1 else 0.0
        self.series = nn.Embedding(config.series, config.width) if config.series else None
        own = OF_WINDOW * len(config.residual) + (config.width if config.series else 0)
        self.rnn = CELLS[config.cell](
            width + own,
            config.hidden_size,
            config.num_layers,
            dropout=dropout,
            bidirectional=config.bidirectional,
            **_start_options(config),
        )
        self.rnn.dropout_function = dropped
        self.decoder = None
        if config.ahead:  # reads the known features of each row of the horizon, and how far ahead it is
            self.decoder = CELLS[config.cell](
                len(config.known) + own + 1, config.hidden_size, config.num_layers, dropout=dropout
            )
            self.decoder.dropout_function = dropped
            told = torch.tensor([*config.known, *range(config.inputs, width + own)])
            self.register_buffer("told", told, persistent=False)  # the features that the decoder reads
        self.dropout = Dropout(config.dropout)
        self.readout = Readout(config.readout, config.hidden_size * config.directions)
        self.head = nn.Linear(self.readout.width, config.outputs)
        self.units = Units(config.outputs) if config.quantity else None
        self.autoregression = None
        if config.residual:  # an untrained network then forecasts the last value: persistence
            horizon = config.ahead or config.outputs // len(config.residual)
            self.autoregression = Autoregression(len(config.residual), horizon, config.autoregression)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
        normalised: bool = False,
        reset: Tensor | None = None,
        window: Window | None = None,
    ) -> tuple[Tensor, State]:
        """Predict.

        Args:
            x: [T,N] symbols, int64, or [T,N,C] features, float32. With a decoder [T+ahead,N,C]: of the rows
                after T only the known features are read. With an embedding of the series, one feature more,
                the last: its number, or -1 for a series that training did not hold.
            state: The state before the first step, as this method returns it. None: zeros.
            lengths: [N] int64, the steps of each sequence. None: all T.
            normalised: Whether x is normalised already, as in a training; with targets to forecast it is then
                what ``with_window`` returns, and the number of the series comes last.
            reset: [T,N], True at steps that start from the initial state again. None: no step.
            window: The windows of x if it is normalised. None: there is nothing to forecast.

        Returns:
            The predictions, [T,N,outputs] if the head reads every step (T: the largest of ``lengths``), else
            [N,outputs], with a decoder [N,ahead*outputs]; and the state after each sequence's last step.
        """
        if not normalised:
            window = self._window(x)
        if self.decoder is not None:
            return self._decoded(x, state, normalised, window)
        looked_up = None if self.embedding is None or lengths is not None else self.embedding.weight
        inputs: Any = x if looked_up is not None else self._inputs(x, normalised, window)  # or packed
        ends = None
        if lengths is not None and not is_near(x) and self.rnn.serves_lengths(inputs):
            lengths = ends = moved(lengths, x.device)  # which a GPU need not wait for
        elif lengths is not None:
            inputs = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
        start = self._to_rnn(state)
        marks: Any = {"embedding": looked_up, "reset": reset, "lengths": ends}
        hidden, last = self.rnn(inputs, start, **marks)  # [T, N, H], (h_n, c_n) or h_n
        last = last if isinstance(last, tuple) else (last,)
        output = self.head(self.dropout(self.read_out(hidden, last[0], lengths)))
        if self.units is not None:
            output = self.units(output)
        if self.config.skip:
            output = output + x
        return self.in_units(output, window), cast(State, last)

    def _decoded(
        self, x: Tensor, state: State | None, normalised: bool, window: Window | None
    ) -> tuple[Tensor, State]:
        """The forecasts of a decoder that starts from the state after the window."""
        assert self.decoder is not None
        inputs, ahead = self._inputs(x, normalised, window), self.config.ahead
        _, last = self.rnn(inputs[:-ahead], self._to_rnn(state))
        place = torch.arange(1, ahead + 1, device=x.device, dtype=inputs.dtype) / ahead
        place = place[:, None, None].expand(-1, inputs.shape[1], 1)
        known = torch.cat([inputs[-ahead:, :, cast(Tensor, self.told)], place], dim=-1)
        hidden, _ = self.decoder(known, last)  # [ahead, N, H]
        output = self.head(self.dropout(hidden.transpose(0, 1))).flatten(1)  # [N, ahead * outputs]
        last = last if isinstance(last, tuple) else (last,)
        return self.in_units(output, window), cast(State, last)

    def _inputs(self, x: Tensor, normalised: bool, window: Window | None) -> Tensor:
        """What the layers read."""
        if self.embedding is not None:
            return cast(Tensor, self.embedding(x))
        if not self.normalise:
            return x
        if self.series is not None:
            features = self._features(x[..., :-1], normalised, window)
            return torch.cat([features, self._of_series(x[..., -1])], dim=-1)
        return self._features(x, normalised, window)

    def _of_series(self, numbers: Tensor) -> Tensor:
        """The embedding of series, [T,N,W]; the mean of all for a series that training did not hold."""
        assert self.series is not None
        own, mean = self.series(numbers.long().clamp(min=0)), self.series.weight.mean(0)
        return torch.where(numbers[..., None] < 0, mean, own)

    def _features(self, x: Tensor, normalised: bool, window: Window | None) -> Tensor:
        centre, scale = cast(Tensor, self.centre), cast(Tensor, self.scale)
        features = x if normalised else normalise(x, centre, scale, self.config.linear)
        if window is not None and not normalised:
            targets = list(self.config.residual)
            features = with_window(features, targets, window, centre[targets], scale[targets])
        if self.training and self.config.noise:
            noise = torch.randn(features.shape, dtype=features.dtype, device=features.device)
            features = features.add(noise, alpha=self.config.noise)
        return features

    def read_out(self, hidden: Tensor | PackedSequence, h_n: Tensor, lengths: Tensor | None) -> Tensor:
        """Choose or pool what the head reads.

        Args:
            hidden: The states of the last layer, [T,N,D*H].
            h_n: The last states of all layers.
            lengths: As of ``forward``.

        Returns:
            [T,N,width] of every step, or [N,width].
        """
        if self.config.readout == "last":
            return final(h_n, self.config.directions)
        if isinstance(hidden, PackedSequence):
            hidden, _ = pad_packed_sequence(hidden)
        return hidden if self.config.readout == "every" else cast(Tensor, self.readout(hidden, lengths))

    def _to_rnn(self, state: State | None) -> Tensor | State | None:
        return state[0] if state is not None and self.config.cell == "rnn" else state

    def _window(self, x: Tensor) -> Window | None:
        """The windows of the targets, whose values are never normalised; None without a linear part."""
        if not (targets := list(self.config.residual)):
            return None
        y, scale = x[: len(x) - self.config.ahead, :, targets], cast(Tensor, self.scale)[targets]
        return window_of(y, scale, self.config.panel)

    def in_one_piece(self) -> list[nn.Parameter]:
        """Return the layers' parameters in the order in which cuDNN reads them uncopied: biases last."""
        named = list(self.rnn.named_parameters())
        return [p for kind in ("weight", "bias") for name, p in named if name.startswith(kind)]

    def sizes(self, x: Tensor, window: Window | None = None) -> Tensor:
        """The unit of each window's errors, [N,horizon*K]; 1, [N,1], without targets.

        Args:
            x: As of ``forward``.
            window: As of ``forward``.
        """
        window = window or self._window(x)
        if window is None:
            return x.new_ones(x.shape[1], 1)
        return window.size.repeat(1, self.config.ahead or self.config.outputs // window.size.shape[1])

    def features_of(self, batch: Batch) -> Tensor:
        """What the layers read of a batch whose features are ``normalised``, [T,N,C]."""
        return self._features(batch.x, True, batch.window)

    def in_units(self, output: Tensor, window: Window | None) -> Tensor:
        """Add the linear part of a forecast.

        Args:
            output: What the head returns.
            window: The windows.

        Returns:
            The predictions; of forecasts, [N, horizon * K] in the targets' own units.
        """
        if window is None or self.autoregression is None:
            return output
        ahead = output.reshape(output.shape[0], -1, len(self.config.residual))  # [N, horizon, K]
        ahead = self.autoregression(window.moves, ahead)
        return torch.addcmul(window.last[:, None], window.size[:, None], ahead).flatten(1)
