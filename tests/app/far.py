"""The device meta in the place of a GPU: its tensors have no numbers, nor mix with those of the CPU."""

import torch

META = torch.device("meta")


def layer(call):
    """A layer in place of the kernels', which have tests of their own: every tensor of the call counts."""
    y = [call.x @ W.t() + b_ih + b_hh + U.sum() for W, U, b_ih, b_hh, _ in call.weights]
    y = torch.cat([gates[..., : call.H] for gates in y], dim=-1)
    n = call.N
    last = [y.new_zeros(call.D, n, call.H) + y.mean() for _ in range(2)]
    return y, *[
        each if start is None else each + start for each, start in zip(last, call.states, strict=True)
    ]


def numbers_are_one(monkeypatch):
    """Let a program read numbers of the device: each of them is 1."""
    to, item, tolist = torch.Tensor.to, torch.Tensor.item, torch.Tensor.tolist

    def brought(t, *given, **more):
        back = t.is_meta and given and str(given[0]) == "cpu"
        return to(torch.ones_like(t, device="cpu") if back else t, *given, **more)

    monkeypatch.setattr(torch.Tensor, "to", brought)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: tolist(t.to("cpu")))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: t.to("cpu"))
    monkeypatch.setattr(torch.Tensor, "item", lambda t: 1.0 if t.is_meta else item(t))
