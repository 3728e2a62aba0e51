"""The torch modules LSTM and RNN: they check arguments, call each layer once, and return the results.

Both are subclasses of torch's modules, so constructor, parameters, initial values, state_dict, repr and
pickling are torch's. ``forward`` is ours. It leaves arguments that it does not recognise to torch's forward,
which serves them or refuses them with torch's message. ``undertow.nn.options`` lists the additional options.
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

from undertow.kernels import cpu, dispatch, listening, plain
from undertow.kernels.call import EVEN, PLAIN, Call, Ragged
from undertow.nn import arguments, dynamo, initialise, lookup, parameters
from undertow.nn.additions import Additions
from undertow.nn.by_hand import ByHand, Mask, serves
from undertow.nn.options import TORCH, Option, Options, check, check_together
from undertow.nn.stateful import Stateful

_Weights = list[Any]  # weight_ih, weight_hh, bias_ih, bias_hh, weight_hr; None where absent
_Layer = Callable[[Call], tuple[Tensor, ...]]

alive: WeakSet[Any] = WeakSet()  # the LSTMs and RNNs of this process


class _Recurrent(torch.nn.RNNBase):
    """What LSTM and RNN share: the layout of arguments, and the walk through the layers."""

    # class attributes, for modules whose pickled state does not have them
    _checkpoint: int | None = None
    forget_bias: float | None = None
    init: str | None = None
    max_lag: float | None = None
    _options: Options | None = None  # None: torch's own equations and shapes
    dropout_function: Callable[[Tensor, float], Tensor] = staticmethod(dropout)

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
        # set before torch's constructor, which calls reset_parameters; and only if given
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
        """Set the options, after checks that raise TypeError or ValueError and name the option."""
        if isinstance(options.zoneout, list):
            options = options._replace(zoneout=tuple(options.zoneout))
        check(options, isinstance(self, torch.nn.LSTM))
        check_together(options, checkpoint=self._checkpoint, forget_bias=self.forget_bias)
        held = self.__dict__  # not by torch's __setattr__, which works only after torch's constructor
        if options.given() or isinstance(held.get("hidden_size"), tuple):
            held["_options"] = options
        else:
            held.pop("_options", None)

    def reset_parameters(self) -> None:
        """Draw torch's initial values, then apply ``forget_bias`` and ``init``."""
        if self._options is None:
            super().reset_parameters()
        else:
            parameters.draw(self)
        initialise.start(self)
        if self._options is not None:
            parameters.start(self)

    def flatten_parameters(self) -> None:
        """Do as torch: bring cuDNN's weights together. Without effect if each layer has its own width."""
        if not isinstance(self.hidden_size, tuple):
            super().flatten_parameters()

    @property
    def checkpoint(self) -> int | None:
        """The number of steps K in a segment of training; None: no segments. It may be set at any time.

        With segments a forward pass keeps only the states at the start of each segment, and the backward pass
        computes the tape of each segment again. Memory then holds a tape of K steps instead of T, at the cost
        of one more forward pass. A good K is near √T and above 64: with shorter segments the calls cost time,
        and the tape of much longer ones does not fit the cache.

        Outputs are the same bit for bit, gradients up to rounding; in bfloat16, c is rounded at the start of
        each segment. The option has no effect where no kernels compute the call
        (``kernels.engines``): projections, relu, other dtypes, double backward, other devices than the CPU
        and NVIDIA GPUs.

        Raises:
            TypeError: the value is neither an int nor None.
            ValueError: the value is below 1, or an option of the module excludes segments.
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

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Do as torch, and note in the state dict's ``_metadata`` what its tensors do not show."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        about = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if about is not None:
            relu = getattr(self, "nonlinearity", "tanh") == "relu"
            options = self._options or TORCH
            zoneout = tuple(float(rate) for rate in options.zoneouts)
            about["undertow"] = {"coupled": options.coupled, "zoneout": zoneout, "relu": relu}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        """Do as torch, but refuse weights for other gates than the module's."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        coupled = local_metadata.get("undertow", {}).get("coupled", self.coupled)
        if coupled != self.coupled:
            rest[-1].append(f"{prefix}coupled: expected weights of {self.coupled}, got those of {coupled}")

    def extra_repr(self) -> str:
        """Return torch's text for ``repr`` with undertow's options."""
        options = ("checkpoint", "forget_bias", "init", "max_lag")
        given = {name: getattr(self, name) for name in options if getattr(self, name) is not None}
        given |= (self._options or TORCH).given()
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in given.items())])

    def stateful(self) -> Stateful:
        """Make a caller of this module that starts each call from the state in which the last one ended.

        It serves sequences that come in pieces (truncated back-propagation through time).

        Returns:
            A ``Stateful``, which is called like the module.

        Raises:
            ValueError: the module is bidirectional.
        """
        return Stateful(self)

    def by_hand(
        self, x: Tensor, mask: Mask | None = None, memory: ByHand | None = None, keep: bool = True
    ) -> ByHand:
        """Run a forward pass whose gradients the program asks for itself, without torch's graph.

        Args:
            x: [T,N,C], of the dtype of the parameters; steps first, also with ``batch_first``.
            mask: draws the factors of dropout between layers from a tensor and the share that is zero. None:
                as torch's dropout.
            memory: an earlier pass, whose y, state and tape are overwritten if x has the same shape. Its
                ``backward`` then raises RuntimeError. None: the pass has memory of its own.
            keep: whether to keep what ``backward`` needs.

        Returns:
            The pass, with ``y``, ``state``, ``backward`` and ``head``.

        Raises:
            ValueError: the module or x is of a kind that the kernels do not serve, see ``serves_by_hand``.
        """
        return ByHand(self, x, mask or _factors, memory, keep)

    def serves_by_hand(self) -> bool:
        """Return whether ``by_hand`` takes this module now: torch's equations, on the CPU, not traced."""
        return serves(self)

    def serves_lengths(self, x: Tensor) -> bool:
        """Return whether kernels take ``lengths`` with an input of x's device and dtype.

        Without kernels a PackedSequence is faster, which torch's operator takes; packing waits for a GPU.
        """
        known = not self.proj_size and isinstance(self.hidden_size, int)
        return x.is_cpu or (known and dispatch.knows(x, self.mode.lower(), self.hidden_size))

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        embedding: Tensor | None = None,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        return_tape: bool = False,
    ) -> Any:
        """Compute all layers, as torch's modules do.

        T steps, N sequences, C input_size, H hidden_size, R proj_size or H, L num_layers, D directions.

        Args:
            input: x [T,N,C], [N,T,C] with batch_first, or [T,C] for one sequence; or a PackedSequence. It has
                the dtype and device of the parameters.
            hx: the initial states: h_0 [L*D,N,R], for the LSTM (h_0, c_0) with c_0 [L*D,N,H]; without N for
                one sequence; tuples of L tensors [D,N,H_k] if each layer has its own width. None: zero, or
                the learnt initial state.
            embedding: [S,C]; ``input`` then holds symbols 0 to S-1, int64 [T,N], and the call is
                ``lstm(embedding[input], hx)``. With its torch-like equations on the CPU, and at least twice
                as many steps as symbols, W e is computed once for each symbol, not at every step.
            lengths: integers [N], in any order, 0 allowed: sequence n consists of the first lengths[n] steps
                of a batched x. As with packing, y is zero after its end, the final states are those at its
                end, and the reverse direction starts there. Nothing is copied.
            mask: booleans [T,N], [N,T] with batch_first, [T] for one sequence. A step with False is skipped:
                h and c stay as they are, y_t repeats h, and x_t is not read.
            reset: booleans of the same shape. A step with True is the first of a new sequence, which starts
                from the module's own initial state, zero or learnt. No gradient passes from it to earlier
                steps. The reverse direction has the same boundaries.
            return_tape: LSTM only. Return a third result, a list with a ``kernels.plain.Steps`` for each
                layer. It holds gates and cell states of every step as tensors that a loss may use. This runs
                in torch operations and is slow; ``undertow.trace`` is the way to look without training on it.

        Returns:
            y in the layout of x with D*R features, and the final states: h_n [L*D,N,R], for the LSTM
            (h_n, c_n), in the form of ``hx``.

        Raises:
            RuntimeError: ``input`` or ``hx`` does not fit the module; the message is torch's, as are other
                exceptions of torch.
            TypeError: lengths, mask or reset holds values of the wrong type. The message names the argument.
            ValueError: lengths, mask or reset does not fit the input or the module.
        """
        if isinstance(input, Proxy):
            given = {"embedding": embedding, "lengths": lengths, "mask": mask, "reset": reset}
            return self._record(input, hx, **given, return_tape=return_tape)
        if embedding is not None:
            extra = return_tape or any(each is not None for each in (lengths, mask, reset))
            if not extra and lookup.serves(self, input, embedding):
                result = self._run(input.unsqueeze(2), hx, EVEN, None, dispatch.layer, embedding)
                if result is not None:
                    return result
            input = torch.nn.functional.embedding(input, embedding)
        ragged = EVEN if lengths is None else Ragged(arguments.lengths(lengths, input, self.batch_first))
        additions = None
        if self._options is not None or mask is not None or reset is not None:
            additions = Additions.of(self, input, mask, reset)
        if return_tape:
            return self._with_tape(input, hx, ragged, additions)
        result = None
        if ragged is not EVEN or additions is not None or not _torch_serves(input, self):
            result = self._run(input, hx, ragged, additions, dispatch.layer)
        if result is not None:
            return result
        if additions is not None:
            return self._refuse(input, hx)
        if isinstance(input, Tensor) and input.dim() in (2, 3):
            dispatch.check_onnx(input, steps=1 if self.batch_first and input.dim() == 3 else 0)
        return super().forward(input, hx)

    def _record(self, input: Proxy, hx: Any, **options: Any) -> Any:
        """Record one node of torch.fx's graph. fx does so for torch's modules, known by the name torch.nn."""
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        tracer: Any = input.tracer
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, hx), given)

    def _refuse(self, input: Any, hx: Any) -> None:
        """Refuse the arguments, with torch's message where torch refuses them, too."""
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
            raise ValueError("return_tape: expected False for the RNN, whose y already holds every state")
        tape: list[plain.Steps] = []
        result = self._run(input, hx, ragged, additions, partial(dispatch.layer_with_steps, steps=tape))
        if result is None:
            self._refuse(input, hx)
            raise AssertionError("unreachable")
        return *result, tape

    def _run(
        self,
        input: Any,
        hx: Any,
        ragged: Ragged,
        additions: Additions | None,
        layer: _Layer,
        embedding: Tensor | None = None,
    ) -> tuple[Any, Any] | None:
        """Return the module's results; None if torch must serve or refuse the arguments."""
        given = arguments.normalised(self, input, hx, ragged)
        if given is None:
            return None
        # read once: a parametrization may take time or draw random numbers at each reading
        weights = [self._weights(names) for names in self._all_weights]
        if not arguments.fit(self, given, weights[0][0].dtype, embedding):
            return None
        if embedding is not None:
            for each in weights[: 1 + self.bidirectional]:
                each[0] = lookup.columns(each[0], embedding)
        y, finals = self._walk(given, weights, additions, layer)
        if given.layout != "steps first":
            y, finals = given.restored(y, finals)
        return y, tuple(finals) if self.mode == "LSTM" else finals[0]

    def _walk(
        self, given: arguments.Given, weights: list[_Weights], additions: Additions | None, layer: _Layer
    ) -> tuple[Tensor, Sequence[Any]]:
        """Compute all layers: y [T,N,·] or packed rows [R,·], and the final states [L*D,N,·]."""
        D, L = 2 if self.bidirectional else 1, self.num_layers
        cell, phi = ("lstm", "tanh") if self.mode == "LSTM" else ("rnn", self.mode[4:].lower())
        record = listening.listener(self) if layer is dispatch.layer else None
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
                x = self.dropout_function(x, self.dropout)
        if isinstance(self.hidden_size, tuple):
            return x, list(zip(*found, strict=True))
        return x, found[0] if L == 1 else [torch.cat(each) for each in zip(*found, strict=True)]

    def _weights(self, names: list[str]) -> _Weights:
        """The weights of one layer and direction.

        They may be no parameters, but tensors of a parametrization, pruning or functional_call.
        """
        try:
            found = [self._parameters[name] for name in names]
        except KeyError:
            found = [getattr(self, name) for name in names]
        if not self.bias:
            found[2:2] = (None, None)
        if not self.proj_size:
            found.append(None)
        return found

    def __setstate__(self, state: Any) -> None:
        """Do as torch, and count modules that come from copies and pickles."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        alive.add(self)

    def __del__(self) -> None:
        """Give the kernels' idle memory back to the system when the last module dies."""
        if alive is not None and cpu is not None:  # both may be gone when the process ends
            alive.discard(self)
            if not alive:
                cpu.release()

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """Give torch.jit.script torch's module with the same parameters.

        Raises:
            ValueError: the module has options, which torch's equations do not have.
        """
        if self._options is not None:
            raise ValueError(f"torch.jit.script compiles torch's module, which has no such options: {self}")
        # not by the name torch.nn.LSTM, which refers to ours under undertow.patch
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

    Each layer and direction computes, with σ the sigmoid and gates stacked in the order i, f, g, o:
    i, f, o = σ(W x_t + U h_{t-1} + b) and g = tanh(W x_t + U h_{t-1} + b), each with its own W, U, b;
    c_t = i ⊙ g + f ⊙ c_{t-1}; h_t = o ⊙ tanh(c_t), with a projection h_t = W_hr (o ⊙ tanh(c_t)).
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers, Schmidhuber & Cummins 2000.

    ``lstm(x, (h_0, c_0))`` returns ``y, (h_n, c_n)``; ``forward`` gives the shapes and the arguments
    ``lengths``, ``mask`` and ``reset``. ``stateful()`` carries the state from call to call.
    ``dropout_function(x, p)`` computes the dropout between layers in training. It is torch's, and may be set
    to another function; cuDNN does not call it.

    The native kernels compute float32, float64 and bfloat16 on the CPU. docs/drop-in.md lists other paths,
    docs/gpu.md those on a GPU.

    Args:
        *args: as for torch.nn.LSTM. ``hidden_size`` may be a list with a width for each layer. Then
            ``num_layers`` is its length, and h and c, given and returned, are tuples of L tensors [D,N,H_k].
        checkpoint: train in segments of this many steps, for sequences whose tape does not fit in memory; see
            the attribute ``checkpoint``. None: no segments.
        forget_bias: the initial forget-gate bias b_ih + b_hh, in every layer and direction. None: torch's.
        init: ``"chrono"``: forget gates that keep their content for 1 to ``max_lag`` steps (Tallec & Ollivier
            2018); ``"orthogonal"``: orthogonal recurrent weights of each gate. None: torch's initial values.
        max_lag: the longest lag in steps, for ``init="chrono"``.
        **options: further arguments of torch.nn.LSTM, and the additions to the equations in
            ``undertow.nn.options``; docs/variants.md gives the equation and the cost of each.
            ``input_dropout``, ``recurrent_dropout``, ``weight_drop`` and ``zoneout`` may be set later, too.

    Raises:
        TypeError: an argument has the wrong type. The message names it.
        ValueError: an argument has the wrong value, or two arguments exclude each other.
    """


class RNN(_Recurrent, torch.nn.RNN):
    """torch.nn.RNN with undertow's kernels: same constructor, parameters, results and errors.

    ``RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
    dropout=0.0, bidirectional=False, device=None, dtype=None, *, checkpoint=None, init=None,
    learn_initial_state=False, input_dropout=0.0, recurrent_dropout=0.0, weight_drop=0.0, zoneout=0.0)``

    Each layer and direction computes h_t = tanh(W x_t + U h_{t-1} + b), or relu instead of tanh.
    Elman 1990, Cognitive Science 14(2).

    ``rnn(x, h_0)`` returns ``y, h_n``; ``forward`` gives the shapes. Arguments and exceptions are those of
    ``LSTM``, without the options of gates and cells.
    """


def _factors(x: Tensor, p: float) -> Tensor:
    return dropout(torch.ones_like(x), p)


def _torch_serves(input: Any, module: Any) -> bool:
    packed = isinstance(input, PackedSequence)
    x = input.data if packed else input
    if not isinstance(x, Tensor) or not dispatch.torch_serves(x) or _on_kernels(x, input, packed, module):
        return False
    return not (listening.watches(module) and dispatch.shows_layers(x))


def _on_kernels(x: Tensor, input: Any, packed: bool, module: Any) -> bool:
    """Whether kernels of ours compute the module's call on a GPU. Segments (``checkpoint``) are theirs."""
    if x.is_cpu or module.proj_size or x.dim() not in (2, 3):
        return False
    cell, H = module.mode.lower(), module.hidden_size
    if torch.compiler.is_compiling():  # such a module was admitted: see _in_graphs
        return not torch.onnx.is_in_onnx_export()
    if module._checkpoint is not None:
        return dispatch.knows(x, cell, H)
    if packed:
        N = int(input.batch_sizes[0])
    else:
        N = 1 if x.dim() == 2 else x.shape[0 if module.batch_first else 1]
    return dispatch.has_kernels(x, cell, H, N, packed)


def _in_graphs(module: Any) -> bool:
    """Whether torch.compile may take ``module`` into its graphs: elsewhere torch's operators serve."""
    if not isinstance(module, _Recurrent):
        return False
    every, H = [*module.parameters()], module.hidden_size
    if all(p.is_cpu for p in every):
        return True
    widest = max(H) if isinstance(H, tuple) else H
    return not module.proj_size and dispatch.knows(every[0], module.mode.lower(), widest)


dynamo.admit(_in_graphs)
