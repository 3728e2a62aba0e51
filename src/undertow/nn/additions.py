"""What one call adds to torch's equations: mask and reset, random draws, the options' parameters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import dropout

from undertow.kernels.call import PLAIN, Ragged, Variant
from undertow.nn import parameters
from undertow.nn.arguments import Given, mark
from undertow.nn.options import TORCH, check_together


class Additions(NamedTuple):
    """What one call of a module adds to torch's equations.

    Attributes:
        module: the ``LSTM`` or ``RNN`` that is called.
        mask: bool [T,N] on the device of x; None if the call has none.
        reset: bool [T,N] on the device of x; None if the call has none.
    """

    module: Any
    mask: Tensor | None
    reset: Tensor | None

    @classmethod
    def of(cls, module: Any, input: Any, mask: Any, reset: Any) -> "Additions":
        """Check the arguments ``mask`` and ``reset`` of a call and bring them into the kernels' layout.

        Args:
            module: the ``LSTM`` or ``RNN`` that is called.
            input: the input of the call, in any layout that the module accepts.
            mask: booleans of the steps' shape, see ``LSTM.forward``; or None.
            reset: booleans of the steps' shape, see ``LSTM.forward``; or None.

        Returns:
            The additions of this call.

        Raises:
            TypeError: mask or reset does not hold booleans.
            ValueError: mask or reset does not fit the input or the module. The message names the argument.
        """
        marks = {"mask": mask, "reset": reset}
        marks = {name: value for name, value in marks.items() if value is not None}
        if marks and module._checkpoint is not None:
            check_together(TORCH, checkpoint=module._checkpoint, forget_bias=None, marks=tuple(marks))
        found = {name: mark(name, value, input, module.batch_first) for name, value in marks.items()}
        return cls(module, found.get("mask"), found.get("reset"))

    def enter(
        self, k: int, x: Tensor, given: Given, weights: Sequence[Any]
    ) -> tuple[Tensor, list[Tensor], Sequence[Any], Variant]:
        """Prepare the call of layer k.

        Args:
            k: the layer, counted from 0.
            x: the layer's input, [T,N,·] or packed rows [R,·].
            given: the arguments of the module's call.
            weights: the weights of all layers and directions, as ``Call.weights`` holds those of one layer.

        Returns:
            The input after input dropout, the initial states [D,N,·] (none if they are zero), the layer's
            weights after weight dropout, and the ``Variant`` of its equations.
        """
        module, N = self.module, given.N
        options, D = module._options or TORCH, 2 if module.bidirectional else 1
        weights = weights[k * D : (k + 1) * D]
        if module.training and options.input_dropout:
            x = x * _by_row(dropout(x.new_ones(N, x.shape[-1]), options.input_dropout), given.ragged)
        if module.training and options.weight_drop:
            weights = [[W, dropout(U, options.weight_drop), *rest] for W, U, *rest in weights]
        learnt = [_for_all(parameters.of_layer(s, k, D), N) for s in parameters.initial(module)]
        own = [parameters.of_layer(s, k, D) for s in given.states] or learnt
        found = self._variant(k, x, learnt, weights, N)
        return x, own, weights, found if found.added else PLAIN

    def _variant(self, k: int, x: Tensor, learnt: list[Tensor], weights: Sequence[Any], N: int) -> Variant:
        module, U = self.module, weights[0][1]
        found = PLAIN if module._options is None else parameters.variant(module, k)
        if self.mask is not None or self.reset is not None:
            found = found._replace(mask=self.mask, reset=self.reset)
        if self.reset is not None and learnt:
            found = found._replace(reset_h=learnt[0], reset_c=(*learnt, None)[1])
        return found if module._options is None else self._with_noise(found, k, x, U, N)

    def _with_noise(self, found: Variant, k: int, x: Tensor, U: Tensor, N: int) -> Variant:
        module, options = self.module, self.module._options
        D, R = 1 + module.bidirectional, U.shape[1]
        if module.training and options.recurrent_dropout:
            found = found._replace(recurrent=dropout(U.new_ones(D, N, R), options.recurrent_dropout))
        steps, (of_h, of_c) = (D, *x.shape[:-1]), options.zoneouts
        if of_h:
            found = found._replace(zoneout_h=_zoneout(U, (*steps, R), of_h, module.training))
        if of_c and module.mode == "LSTM":
            H = parameters.widths(module)[k]
            found = found._replace(zoneout_c=_zoneout(U, (*steps, H), of_c, module.training))
        return found


def _zoneout(like: Tensor, shape: tuple[int, ...], rate: float, training: bool) -> Tensor:
    if not training:
        return like.new_full(shape[-1:], rate).expand(shape)
    drawn = torch.rand(shape, device=like.device) < rate  # takes less than half the time of bernoulli_
    return drawn.to(like.dtype)


def _for_all(state: Tensor, N: int) -> Tensor:
    """Repeat a state [D,·] for all sequences, [D,N,·]."""
    return state.unsqueeze(1).expand(-1, N, -1)


def _by_row(factors: Tensor, ragged: Ragged) -> Tensor:
    """Factors [N,C] of sequences as factors of x: unchanged for [T,N,C], by row for packed rows [R,C].

    The packed rows of a step belong to the longest sequences, which come first.
    """
    if ragged.batch_sizes is None:
        return factors
    ranks = torch.arange(factors.shape[0], device="cpu").expand(ragged.batch_sizes.shape[0], -1)
    return factors[ranks[ranks < ragged.batch_sizes.unsqueeze(1)].to(factors.device)]
