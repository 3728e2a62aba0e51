"""What a call of a module is given, checked: does it suit torch, and what of it does torch not know."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from undertow.nn import parameters


def fit(module: Any, x: Tensor, states: Sequence[Any], batch: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether x [T,*batch,C] (packed: [R,C]) and ``states`` [L*D,*batch,·] are sure to suit torch."""
    shape = x.shape
    if shape[-1] != module.input_size or shape[0] == 0 or not (x.dtype is dtype or _autocasts(x)):
        return False
    if not states:
        return True
    autocast = _autocasts(x)
    if isinstance(module.hidden_size, tuple):
        return _widths_fit(module, states, batch, dtype, autocast)
    blocks, sizes = len(module._all_weights), [module.proj_size or module.hidden_size]
    if module.mode == "LSTM":
        sizes.append(module.hidden_size)
    return len(states) == len(sizes) and all(
        isinstance(s, Tensor) and s.shape == (blocks, *batch, size) and (s.dtype == dtype or autocast)
        for s, size in zip(states, sizes, strict=True)
    )


def _widths_fit(
    module: Any, states: Sequence[Any], batch: tuple[int, ...], dtype: torch.dtype, autocast: bool
) -> bool:
    """The same of states that are tuples with a tensor [D,*batch,H] for each layer."""
    D, kinds = 1 + module.bidirectional, 2 if module.mode == "LSTM" else 1
    return len(states) == kinds and all(
        isinstance(state, tuple | list)
        and len(state) == module.num_layers
        and isinstance(s, Tensor)
        and s.shape == (D, *batch, H)
        and (s.dtype == dtype or autocast)
        for state in states
        for s, H in zip(state, parameters.widths(module), strict=False)
    )


def _autocasts(x: Tensor) -> bool:
    """Whether torch would give an operator on x another dtype."""
    return x.is_cpu and torch.is_autocast_enabled("cpu")


def lengths(given: Any, input: Any, batch_first: bool) -> Tensor:
    """``given`` as the kernels take it, int64 [N] on the CPU: a copy, still the same in the backward pass."""
    if not isinstance(input, Tensor) or input.dim() != 3:
        raise ValueError(f"lengths: expected with a batched input of 3 dimensions, got {kind(input)}")
    found = torch.as_tensor(given)
    if found.numel() == 0:  # as [] is, which torch takes for floats
        found = found.long()
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"lengths: expected integers, got {found.dtype}")
    N = input.shape[0 if batch_first else 1]
    if found.shape != (N,):
        raise ValueError(f"lengths: expected shape [{N}], one for each sequence, got {list(found.shape)}")
    return found.to("cpu", torch.int64, copy=True).contiguous()


def mark(name: str, value: Any, input: Any, batch_first: bool) -> Tensor:
    """``value`` as the kernels take it."""
    if isinstance(input, PackedSequence):
        raise ValueError(
            f"{name}: expected None with a PackedSequence, which has no place for steps [T, N]; "
            "give the padded input and lengths="
        )
    if not isinstance(input, Tensor) or input.dim() not in (2, 3):
        raise ValueError(f"{name}: expected with an input of 2 or 3 dimensions, got {kind(input)}")
    # of an array a copy: torch would not notice if it changed before the backward pass
    found = value if isinstance(value, Tensor) else torch.tensor(value)
    if found.dtype != torch.bool:
        raise TypeError(f"{name}: expected booleans, got {found.dtype}")
    if found.shape != input.shape[:-1]:
        axes = "T" if input.dim() == 2 else "N, T" if batch_first else "T, N"
        sizes = list(input.shape[:-1])
        raise ValueError(
            f"{name}: expected shape [{axes}] = {sizes}, as the input has, got {list(found.shape)}"
        )
    found = found.to(input.device)
    if input.dim() == 2:
        return found.unsqueeze(1)
    return found.transpose(0, 1).contiguous() if batch_first else found


def kind(input: Any) -> str:
    return f"shape {list(input.shape)}" if isinstance(input, Tensor) else type(input).__name__
