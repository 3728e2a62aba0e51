"""One call of the kernels against float64 on the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from gpu.setting import BOUNDS, DEVICE, DRY, HALF, OPTIONS, Shape
from gpu.timing import lengths
from undertow.kernels import cpu, triton
from undertow.kernels.call import PLAIN, Call, Ragged, Variant

TRAINED = ("reset_h", "reset_c", "peepholes", "gain_x", "gain_h", "gain_c", "bias_c")
Case = tuple[Shape, list[str], str, torch.dtype, str]  # size, options, form, dtype, precision


def drawn(N: int, T: int, C: int, H: int, options: list[str], form: str) -> Call:
    """A call of two directions in float64 on the CPU, with these options."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def chosen(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g) < 0.5

    D, rows = 2, (T, N)
    ragged = Ragged()
    if form == "lengths":
        ragged = Ragged(lengths(N, T))
    elif form == "packed":
        _, sizes, order, _ = pack_padded_sequence(normal(T, N, 1), lengths(N, T), enforce_sorted=False)
        ragged, rows = Ragged(None, sizes, order), (int(sizes.sum()),)
    fields: dict[str, Any] = {
        "mask": {"mask": chosen(T, N)},
        "reset": {"reset": chosen(T, N), "reset_h": normal(D, N, H), "reset_c": normal(D, N, H)},
        "recurrent": {"recurrent": chosen(D, N, H).double() * 2},
        "zoneout": {"zoneout_h": chosen(D, *rows, H).double(), "zoneout_c": chosen(D, *rows, H).double() / 2},
        "peepholes": {"peepholes": normal(D, 3, H)},
        "coupled": {"coupled": True},
        "norms": {"gain_x": normal(D, 4 * H), "gain_h": normal(D, 4 * H),
                  "gain_c": normal(D, H), "bias_c": normal(D, H)},
    }  # fmt: skip
    given = {name: value for option in options for name, value in fields[option].items()}
    weights = [(normal(4 * H, C) / C**0.5, normal(4 * H, H) / H**0.5, normal(4 * H), normal(4 * H), None)
               for _ in range(D)]  # fmt: skip
    variant = Variant(**given) if given else PLAIN
    return Call("lstm", normal(*rows, C), normal(D, N, H), normal(D, N, H), weights, ragged, variant)


def moved(call: Call, device: str, dtype: torch.dtype, back: torch.dtype | None = None) -> Call:
    """The call in ``dtype``, as leaves; with ``back`` its rounded numbers in that one."""
    names = ["x", "h_0", "c_0", *"WUbb_" * call.D, *Variant._fields[:-1]]

    def leaf(name: str, t: Tensor | None) -> Any:
        if t is None or t.dtype is torch.bool:
            return t if t is None else t.to(device)
        moved = t.to(dtype).to(device, back or dtype)
        return moved.requires_grad_(name in TRAINED or name in ("x", "h_0", "c_0", *"WUb"))

    tensors = [leaf(name, t) for name, t in zip(names, call.tensors, strict=False)]
    some, sizes, order = call.ragged
    there = [None if t is None else t.to(device) for t in (some, order)]
    return call.filled(tensors)._replace(ragged=Ragged(there[0], sizes, there[1]))


def results(engine: Any, call: Call) -> dict[str, Tensor]:
    """All outputs and gradients, with the same incoming gradients for every dtype."""
    outputs = engine.layer(call)
    g = torch.Generator().manual_seed(2)
    douts = [torch.randn(o.shape, generator=g).to(o.device, o.dtype) for o in outputs]
    leaves = [(k, t) for k, t in enumerate(call.tensors) if t is not None and t.requires_grad]
    grads = torch.autograd.grad(outputs, [t for _, t in leaves], douts)
    named = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    named |= {f"d{k}": g for (k, _), g in zip(leaves, grads, strict=True)}
    return {name: t.detach() for name, t in named.items()}


def normwise(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    def error(a: Tensor, e: Tensor) -> float:
        return float((a.double().cpu() - e).norm() / e.norm().clamp_min(1e-30))

    return {name: error(found[name], e) for name, e in truth.items()}


def cases() -> list[Case]:
    """What ``correct`` compares: a plain layer in every way, options in float32 and bfloat16, all of them."""
    forms = ("padded", "lengths", "packed")
    settings = [(torch.float32, "ieee"), (HALF[0], str(HALF[0]))]
    more = [(torch.float32, "tf32"), (torch.float16, "torch.float16")]
    sizes = [(33, 20, 7, 64), (17, 9, 5, 37), (9, 6, 16, 128), (5, 4, 3, 200)]
    if DRY:
        return [((3, 2, 2, 3), options, "lengths", *how) for options in ([], OPTIONS) for how in settings]
    found: list[Case] = [
        (size, [], form, *how) for size in sizes for form in forms for how in settings + more
    ]
    for k, options in enumerate([*([name] for name in OPTIONS), OPTIONS]):
        for form in forms:
            some = [o for o in options if form != "packed" or o not in ("mask", "reset")]
            if some:
                each = settings + more if len(options) > 1 else settings
                found += [(sizes[k % 3], some, form, *how) for how in each]
    return found


def compare(case: Case, repeats: int = 5) -> dict[str, Any]:
    """The kernels and float64 on the CPU, from the same rounded numbers."""
    size, options, form, dtype, name = case
    torch.backends.cudnn.rnn.fp32_precision = "ieee" if name == "ieee" else "tf32"
    try:
        call = drawn(*size, options, form)
        truth = results(cpu.ENGINE, moved(call, "cpu", dtype, torch.float64))
        runs = [results(triton.ENGINE, moved(call, DEVICE, dtype)) for _ in range(repeats)]
    finally:
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
    errors = normwise(runs[0], truth)
    worst = max(errors, key=errors.__getitem__)
    repeat = all(torch.equal(run[n], runs[0][n]) for run in runs[1:] for n in run)
    row = {"size": size, "options": options, "form": form, "as": name, "worst": worst}
    right = repeat and errors[worst] <= BOUNDS[name]
    return row | {"normwise": errors[worst], "repeats": repeat, "ok": right}
