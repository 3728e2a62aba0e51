"""LSTM and RNN, torch modules: arguments in, one call per layer and direction, results out.

Both are subclasses of torch's own modules, so constructor, parameters, initial values, state_dict,
repr and pickling are torch's. ``forward`` is ours, and what it does not recognise it leaves to torch's
forward, to serve or to refuse in torch's words. Options add to that: ``undertow.nn.options``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from undertow.kernels import cpu, dispatch, plain, recording
from undertow.kernels.call import EVEN, PLAIN, Call, Ragged
from undertow.nn import arguments, dynamo, initialise, parameters
from undertow.nn.additions import Additions
from undertow.nn.options import TORCH, Option, Options, check, check_together
from undertow.nn.stateful import Stateful

_Weights = list[Any]  # weight_ih, weight_hh, bias_ih, bias_hh, weight_hr; None where absent
_Layer = Callable[[Call], tuple[Tensor, ...]]

alive: WeakSet[Any] = WeakSet()  # the LSTMs and RNNs of this process


class _Recurrent(torch.nn.RNNBase):
    """What LSTM and RNN share: the layout of arguments, and the walk through the layers."""

    # the class's, for modules whose pickled state has none
    _checkpoint: int | None = None
    forget_bias: float | None = None
    init: str | None = None
    max_lag: float | None = None
    _options: Options | None = None  # None: torch's own equations and shapes

    learn_initial_state = Option()
    input_dropout = Option()
    recurrent_dropout = Option()
    weight_drop = Option()
    zoneout = Option()
    layer_norm = Option()
    peepholes = Option()
    coupled = Option()

    def __init__(
        self,
        *args: Any,
        checkpoint: int | None = None,
        forget_bias: float | None = None,
        init: str | None = None,
        max_lag: float | None = None,
        **options: Any,
    ) -> None:
        initialise.check(isinstance(self, torch.nn.LSTM), forget_bias, init, max_lag)
        # before torch's constructor, which calls reset_parameters; set only where given
        given = {"forget_bias": forget_bias, "init": init, "max_lag": max_lag}
        self.__dict__.update({name: value for name, value in given.items() if value is not None})
        self._choose(Options(**{name: options.pop(name) for name in Options._fields if name in options}))
        args, widths = parameters.pop_widths(args, options)
        super().__init__(*args, **options)
        alive.add(self)
        if widths is not None:
            self._options = self._options or TORCH
            parameters.set_widths(self, widths)
        if self._options is not None:
            parameters.register(self)
        if checkpoint is not None:
            self.checkpoint = checkpoint

    def _choose(self, options: Options) -> None:
        """Raises TypeError or ValueError, naming it, for an option that does not fit."""
        if isinstance(options.zoneout, list):
            options = options._replace(zoneout=tuple(options.zoneout))
        check(options, isinstance(self, torch.nn.LSTM))
        check_together(options, checkpoint=self._checkpoint, forget_bias=self.forget_bias)
        held = self.__dict__  # past torch's __setattr__, which its constructor prepares
        if options.given() or isinstance(held.get("hidden_size"), tuple):
            held["_options"] = options
        else:
            held.pop("_options", None)

    def reset_parameters(self) -> None:
        """torch's initial values, then what ``forget_bias`` and ``init`` ask for."""
        if self._options is None:
            super().reset_parameters()
        else:
            parameters.draw(self)
        initialise.start(self)
        if self._options is not None:
            parameters.start(self)

    def flatten_parameters(self) -> None:
        """torch's, which brings cuDNN's weights together; without effect where layers differ in width."""
        if not isinstance(self.hidden_size, tuple):
            super().flatten_parameters()

    @property
    def checkpoint(self) -> int | None:
        """Steps a segment in training, or None: the whole tape is kept. May be set at any time.

        A forward pass to be differentiated then keeps only the states at the segments' starts, and the
        backward pass makes the tape of each segment anew: a tape of K steps in place of T, for one more
        forward pass. Take K near √T, some hundreds: far below 64 the calls cost, far above the tape leaves
        the cache. Results are the same, outputs bit for bit and gradients to rounding; but in bfloat16 c is
        rounded at each segment's start. Ignored where the kernel does not serve (``kernels.dispatch``):
        projections, relu, other dtypes and devices, a graph of the backward.
        Raises TypeError for what is no int, ValueError for less than 1.
        """
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, steps: int | None) -> None:
        if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool)):
            raise TypeError(f"checkpoint: expected an int or None, got {type(steps).__name__}")
        if steps is not None and steps < 1:
            raise ValueError(f"checkpoint: expected at least 1 step, got {steps}")
        check_together(self._options or TORCH, checkpoint=steps, forget_bias=None)
        self._checkpoint = steps

    def extra_repr(self) -> str:
        options = ("checkpoint", "forget_bias", "init", "max_lag")
        given = {name: getattr(self, name) for name in options if getattr(self, name) is not None}
        given |= (self._options or TORCH).given()
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in given.items())])

    def stateful(self) -> Stateful:
        """The same module, called so that each call goes on from the state in which the last one ended.

        For sequences that come in pieces: see ``undertow.nn.stateful``. Raises ValueError for two directions.
        """
        return Stateful(self)

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        return_tape: bool = False,
    ) -> Any:
        """As in torch: x [T,N,C], [N,T,C] with batch_first, [T,C] or a PackedSequence, and initial states.

        ``lengths``: integers [N], in any order, zero allowed: sequence n is its first lengths[n] steps of
        a batched x. y is zero from there on, the final states are those at its own end, and the reverse
        direction starts there: what packing gives, at no copy.

        ``mask``: booleans [T,N], [N,T] with batch_first, [T] unbatched. Where False, the step is passed over:
        h and c stay, y_t repeats h, x_t is not read.

        ``reset``: booleans of the same shape. Where True, the step is the first of a new sequence, which
        begins from the module's own initial state, zero or learnt; no gradient passes from it to the steps
        before. The reverse direction has the same boundaries.

        ``return_tape``, of the LSTM: a third result, a list with a ``kernels.plain.Steps`` for each layer,
        whose gates and cell states at every step are tensors that a loss may be taken of. Computed in torch's
        operations, so slowly; to look without training on it, there is ``undertow.trace``.

        Returns y in the layout of x with D*H features (D directions; projected D*P) and h_n [L*D,N,H],
        for the LSTM (h_n, c_n). Raises what torch raises where the arguments do not fit the module, and
        TypeError or ValueError, naming it, where lengths, mask or reset do not fit the input.
        """
        if isinstance(input, Proxy):
            return self._record(input, hx, lengths=lengths, mask=mask, reset=reset, return_tape=return_tape)
        ragged = EVEN if lengths is None else Ragged(arguments.lengths(lengths, input, self.batch_first))
        additions = None
        if self._options is not None or mask is not None or reset is not None:
            additions = Additions.of(self, input, mask, reset)
        if return_tape:
            return self._with_tape(input, hx, ragged, additions)
        result = None
        if ragged is not EVEN or additions is not None or not _torch_serves(input):
            result = self._run(input, hx, ragged, additions, dispatch.layer)
        if result is not None:
            return result
        if isinstance(input, Proxy):
            return _leaf(self, input, hx)
        if additions is not None:
            return self._refuse(input, hx)
        if isinstance(input, Tensor) and input.dim() in (2, 3):
            dispatch.check_onnx(input, steps=1 if self.batch_first and input.dim() == 3 else 0)
        return super().forward(input, hx)

    def _record(self, input: Proxy, hx: Any, **options: Any) -> Any:
        """One node of torch.fx's graph, as for torch's own modules, which fx knows by the name torch.nn."""
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        tracer: Any = input.tracer
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, hx), given)

    def _refuse(self, input: Any, hx: Any) -> None:
        """What torch refuses, in torch's words; it would serve the rest with its own equations."""
        if not isinstance(self.hidden_size, tuple):
            super().forward(input, hx)
            raise ValueError("input: expected x and states of the module's dtype")
        given = [
            f"[{', '.join(map(str, s.shape))}]" if isinstance(s, Tensor) else type(s).__name__
            for s in (input, hx)
        ]
        raise ValueError(
            f"input: expected [T, N, {self.input_size}] of the module's dtype, and for each state a tuple of "
            f"tensors [D, N, H] with H = {self.hidden_size}; got {given[0]} and {given[1]}"
        )

    def _with_tape(self, input: Any, hx: Any, ragged: Ragged, additions: Additions | None) -> Any:
        if self.mode != "LSTM":
            raise ValueError("return_tape: expected False for the RNN, whose y holds all there is")
        tape: list[plain.Steps] = []
        result = self._run(input, hx, ragged, additions, partial(dispatch.layer_with_steps, steps=tape))
        if result is None:
            self._refuse(input, hx)
            raise AssertionError("unreachable")
        return *result, tape

    def _run(
        self, input: Any, hx: Any, ragged: Ragged, additions: Additions | None, layer: _Layer
    ) -> tuple[Any, Any] | None:
        """The module's results, or None where the arguments are torch's to serve or to refuse."""
        given = arguments.normalised(self, input, hx, ragged)
        if given is None:
            return None
        # read once: a parametrization may cost, or draw random numbers, each time
        weights = [self._weights(names) for names in self._all_weights]
        if not arguments.fit(self, given, weights[0][0].dtype):
            return None
        y, finals = self._walk(given, weights, additions, layer)
        if given.layout != "steps first":
            y, finals = given.restored(y, finals)
        return y, tuple(finals) if self.mode == "LSTM" else finals[0]

    def _walk(
        self, given: arguments.Given, weights: list[_Weights], additions: Additions | None, layer: _Layer
    ) -> tuple[Tensor, Sequence[Any]]:
        """Through all layers -> y [T,N,D*R] or [R,D*R], and the final states [L*D,N,·]."""
        D, L = 2 if self.bidirectional else 1, self.num_layers
        cell, phi = ("lstm", "tanh") if self.mode == "LSTM" else ("rnn", self.mode[4:].lower())
        record = recording.listener(self) if layer is dispatch.layer else None
        x, found = given.x, []
        for k in range(L):
            own: Sequence[Any] = given.states
            here: Sequence[_Weights] = weights
            variant = PLAIN
            if additions is not None:
                x, own, here, variant = additions.enter(k, x, given, weights)
            elif L > 1:
                own, here = [s[k * D : (k + 1) * D] for s in own], weights[k * D : (k + 1) * D]
            h_0, c_0 = (*own, None, None)[:2]
            seen = None if record is None else record()
            call = Call(cell, x, h_0, c_0, here, given.ragged, variant, phi, self._checkpoint, seen)
            x, *last = layer(call)
            found.append(last)
            if self.dropout and self.training and k < L - 1:
                x = dropout(x, self.dropout)
        if isinstance(self.hidden_size, tuple):
            return x, list(zip(*found, strict=True))
        return x, found[0] if L == 1 else [torch.cat(each) for each in zip(*found, strict=True)]

    def _weights(self, names: list[str]) -> _Weights:
        """The parameters of one layer and direction, or what stands in their place: the tensors that
        parametrizations, pruning or functional_call have put there."""
        held = self._parameters
        found = [held[name] if name in held else getattr(self, name) for name in names]
        if not self.bias:
            found[2:2] = (None, None)
        if not self.proj_size:
            found.append(None)
        return found

    def __setstate__(self, state: Any) -> None:
        """torch's, and counts what copies and pickles bring."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        alive.add(self)

    def __del__(self) -> None:
        """With the last module, the memory that the kernels kept for a next call goes back to the system."""
        if alive is not None and cpu is not None:  # both may be gone when the process ends
            alive.discard(self)
            if not alive:
                cpu.release()

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """torch.jit.script compiles torch's own module over the same parameters.

        Raises ValueError for a module with options, whose equations torch's does not have.
        """
        if self._options is not None:
            raise ValueError(f"torch.jit.script compiles torch's module, which is no {self}")
        # not by the name torch.nn.LSTM, which is ours under undertow.patch
        kind: Any = next(k for k in type(self).__mro__ if k.__module__ == torch.nn.RNNBase.__module__)
        twin: torch.nn.Module = kind.__new__(kind)
        twin.__setstate__(self.__getstate__())  # type: ignore[no-untyped-call]
        return twin


class LSTM(_Recurrent, torch.nn.LSTM):
    """torch.nn.LSTM with undertow's kernels: same constructor, parameters, results and errors.

    ``LSTM(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, proj_size=0, device=None, dtype=None, *, checkpoint=None, forget_bias=None,
    init=None, max_lag=None, learn_initial_state=False, input_dropout=0.0, recurrent_dropout=0.0,
    weight_drop=0.0, zoneout=0.0, layer_norm=False, peepholes=False, coupled=False)``

    Per layer and direction, with σ the sigmoid and gates stacked in the order i, f, g, o:
    i, f, o = σ(W x_t + U h_{t-1} + b), g = tanh(W x_t + U h_{t-1} + b), each with its own W, U, b;
    c_t = i ⊙ g + f ⊙ c_{t-1}; h_t = o ⊙ tanh(c_t), projected h_t = W_hr (o ⊙ tanh(c_t)).

    ``lstm(x, (h_0, c_0))`` -> ``y, (h_n, c_n)``: x [T,N,C] -> y [T,N,D*R]; [N,T,·] with batch_first,
    [T,·] unbatched, or PackedSequence to PackedSequence. h [L*D,N,R], c [L*D,N,H]; zero if not given.
    C input_size, H hidden_size, R proj_size or H, L num_layers, D directions.

    ``hidden_size`` may be a list of widths, one for each layer: then h and c, given and returned, are tuples
    of L tensors [D,N,H_k].

    ``lstm(x, lengths=, mask=, reset=)``: see ``forward``. ``lstm.stateful()`` carries the state over calls.

    What may be added to these equations, and what it costs, stands in docs/variants.md and
    ``undertow.nn.options``: learnt initial states, dropout of several kinds, zoneout, layer
    normalisation, peepholes, a coupled forget gate. All but ``layer_norm``, ``peepholes``, ``coupled`` and
    ``learn_initial_state`` may be set at any time.

    ``checkpoint=K`` trains in segments of K steps, for sequences whose tape is too long to keep: see the
    attribute of that name.

    How it starts, in every layer and direction, now and after ``reset_parameters()``; without these
    options, exactly as torch starts:
    ``forget_bias=1.0``: the forget gate's bias, b_ih + b_hh, is this number: gates that begin open.
    ``init="chrono", max_lag=T``: forget gates that hold for 1 to T steps (Tallec & Ollivier 2018).
    ``init="orthogonal"``: each gate's recurrent weights are orthogonal; goes with ``forget_bias``.
    Raises TypeError or ValueError, naming the option, where they do not fit (``undertow.nn.initialise``).

    float32, float64 and bfloat16 run in the native kernels on the CPU; ``kernels.dispatch`` lists the rest.
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers, Schmidhuber & Cummins 2000.
    """


class RNN(_Recurrent, torch.nn.RNN):
    """torch.nn.RNN with undertow's kernels: h_t = tanh(W x_t + U h_{t-1} + b), or relu in tanh's place.

    ``RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
    dropout=0.0, bidirectional=False, device=None, dtype=None, *, checkpoint=None, init=None,
    learn_initial_state=False, input_dropout=0.0, recurrent_dropout=0.0, weight_drop=0.0, zoneout=0.0)``

    ``rnn(x, h_0)`` -> ``y, h_n``, shapes, options and ``init="orthogonal"`` as for ``LSTM``.
    Elman 1990, Cognitive Science 14(2).
    """


def _leaf(module: torch.nn.Module, input: Proxy, hx: Any) -> Any:
    """The call of a module that torch.fx does not look into, which it does by itself with torch's own."""
    tracer: Any = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, hx), {})


def _torch_serves(input: Any) -> bool:
    x = input.data if isinstance(input, PackedSequence) else input
    return isinstance(x, Tensor) and dispatch.torch_serves(x)


def _in_graphs(module: Any) -> bool:
    """Whether torch.compile may take ``module`` up: elsewhere torch's operators serve, taken apart."""
    return isinstance(module, _Recurrent) and all(p.is_cpu for p in module.parameters())


dynamo.admit(_in_graphs)
