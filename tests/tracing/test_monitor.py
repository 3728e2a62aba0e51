"""undertow.FlowMonitor: its records against undertow.flow by hand on the same pass; what it leaves alone.

The kernel walks back in the layer's own precision, undertow.flow in float64: they agree to 1e-9 in float64
and 1e-4 in float32.
"""

import copy
import csv
import gc
import json
import pickle
import sys
import warnings
import weakref
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import undertow
from undertow import flow
from undertow.flow.steps import steps_of
from undertow.kernels import listening

T, N, C, H = 30, 6, 3, 5
CELLS = {"lstm": undertow.LSTM, "rnn": undertow.RNN}
both_cells = pytest.mark.parametrize("cell", CELLS)


class Network(torch.nn.Module):
    """A recurrent layer and a head that answers after the last step."""

    def __init__(self, cell="lstm", **options):
        super().__init__()
        torch.manual_seed(4)
        self.layer = CELLS[cell](C, H, **options)
        self.head = torch.nn.Linear(H * (2 if self.layer.bidirectional else 1), 1)

    def forward(self, x, **options):
        return self.head(self.layer(x, **options)[0][-1])


def batch(seed=0):
    return torch.randn(T, N, C, generator=torch.Generator().manual_seed(seed))


def train(network, monitor=None, steps=1, accumulate=1, after=lambda: None):
    """Adam on the same batches each time; ``after`` each step, before the monitor's."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for k in range(steps):
        optimizer.zero_grad()
        for part in range(accumulate):
            network(batch(k * accumulate + part)).square().mean().backward()
        optimizer.step()
        after()
        if monitor is not None:
            monitor.step()
    return [p.detach().clone() for p in network.parameters()]


def by_hand(way, chosen):
    """What undertow.flow says, function by function, of sequences of one layer and direction."""
    tape, steps = way.tape, way.source.steps
    parts = {"h": tape.h[:, chosen], "lengths": None if tape.lengths is None else tape.lengths[chosen]}
    if way.cell == "lstm":
        parts |= {"gates": tape.gates[:, chosen], "c": tape.c[:, chosen]}
    tape = type(tape)(**parts, reverse=tape.reverse)
    dh, dc = steps.dh[:, chosen], None if steps.dc is None else steps.dc[:, chosen]
    ends = (
        tape.lengths
        if tape.lengths is not None and not tape.reverse
        else np.full(len(chosen), len(tape.h) - 1)
    )
    each = np.arange(len(chosen))
    by_lag = flow.gradient_by_lag(tape, way.weight_hh, dh[ends, each], ends)
    horizon = flow.memory_horizon(by_lag)
    x, dx = ("h", dh) if dc is None else ("c", dc)
    log_norm = getattr(by_lag, f"log_d{x}_norm")
    first, last = np.linalg.norm(dx[0], axis=-1), np.linalg.norm(dx[ends, each], axis=-1)
    lags = ends if tape.lengths is None else tape.lengths
    found = {
        "lags": np.median(lags),
        "horizon_e": np.median(getattr(horizon, x)[0]),
        "horizon_1pct": np.median(getattr(horizon, x)[1]),
        "growth": np.median((log_norm[lags, each] - log_norm[0]) / lags),
        "gradient_first": np.median(first),
        "gradient_last": np.median(last),
        "gradient_ratio": np.median(first / last),
    }
    if dc is not None:
        carousel, gates = flow.carousel(tape), flow.gate_saturation(tape)
        alive = np.arange(len(tape.h) - 1)[:, None] < lags
        f = carousel.f[alive[::-1] if tape.reverse else alive]
        low, median, high = np.quantile(f, (0.1, 0.5, 0.9), method="nearest")
        found |= {"f_mean": f.mean(), "f_low": low, "f_median": median, "f_high": high}
        found["carousel_log"] = np.median(np.log(np.sqrt((carousel.product() ** 2).mean(axis=-1))))
        found |= {
            name: getattr(gates, name).mean() for name in ("i_closed", "f_closed", "f_open", "o_closed")
        }
    return found


def assert_record(record, expected, tolerance):
    found = asdict(record.summary)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=1e-12, err_msg=name)
    left = set(found) - set(expected) - {"step_norm", "step_from_1"}
    assert all(found[name] is None for name in left)


# ------------------------------------------------------------------------------- what is recorded


@both_cells
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2}, {"bidirectional": True}], ids=["one layer", "two layers", "both ways"]
)
def test_records_are_what_flow_says_of_the_same_pass(cell, dtype, options):
    network = Network(cell, **options).to(dtype)
    twin = copy.deepcopy(network)
    monitor = undertow.FlowMonitor(network, sequences=3)
    x = batch().to(dtype)

    def backward(model):
        y, _ = model.layer(x)
        ways = y.view(T, N, -1, H)
        (ways[-1, :, 0].square().sum() + ways[0, :, -1].sum()).backward()  # each direction's last step

    backward(network)
    monitor.step()
    with undertow.trace(twin) as trace:
        backward(twin)
    layers = [way for layer in trace["layer"].layers for way in layer.directions]
    assert len(monitor.records) == len(layers)
    for record, way in zip(monitor.records, layers, strict=True):
        assert (record.step, record.module, record.cell, record.reverse) == (
            0,
            "layer",
            cell,
            way.tape.reverse,
        )
        expected = by_hand(way, [0, 2, 5])  # spread over the batch
        assert_record(record, expected, 1e-9 if dtype == torch.float64 else 1e-4)
    expected = {"bidirectional": ["layer.l0", "layer.l0_reverse"], "num_layers": ["layer.l0", "layer.l1"]}
    assert [record.name for record in monitor.records] == expected.get("".join(options), ["layer.l0"])


@both_cells
def test_sequences_of_unequal_lengths(cell):
    network, lengths = Network(cell, bidirectional=True).double(), [5, 0, 30, 17, 11, 8]
    twin = copy.deepcopy(network)
    monitor, x = undertow.FlowMonitor(network, sequences=99), batch().double()
    ends = torch.tensor([n for n in lengths if n]) - 1

    def backward(model):
        y, _ = model.layer(x, lengths=lengths)
        y = y[:, [k for k, n in enumerate(lengths) if n]].view(T, 5, 2, H)
        (y[ends, torch.arange(5), 0].sum() + y[0, :, 1].square().sum()).backward()

    backward(network)
    monitor.step()
    with undertow.trace(twin) as trace:
        backward(twin)
    for record, way in zip(monitor.records, trace["layer"].layers[0].directions, strict=True):
        assert_record(record, by_hand(way, [0, 2, 3, 4, 5]), 1e-9)  # the empty one has nothing to show


@both_cells
@pytest.mark.parametrize(
    ("T", "some"), [(200, [*range(32), *range(168, 200)]), (40, range(40)), (5, range(5))]
)
def test_the_norm_of_one_step(cell, T, some):
    """By its random vectors, exactly, of the first and last steps; and those estimate the matrices' norms."""
    layer = CELLS[cell](C, 24, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    with undertow.trace(layer) as trace:
        layer(torch.randn(T, 2, C, dtype=torch.float64))[0].sum().backward()
    way = trace.layers[0]
    steps, g = way.source.steps, flow.last_error(way.tape, way.source.steps.dh, way.source.steps.dc)
    found = flow.summary(
        way.tape,
        way.weight_hh,
        flow.gradient_by_lag(way.tape, way.weight_hh, g[1], g[0], g[2]),
        steps.dh,
        steps.dc,
    )
    A = (
        flow.step_terms(way.tape, way.weight_hh).total
        if cell == "lstm"
        else flow.state_jacobian(way.tape, way.weight_hh)
    )
    from undertow.flow.summary import _probed

    blocks = list(_probed(steps_of(way.tape, way.weight_hh)))
    z, Az = (np.concatenate([block[k] for block in blocks]) for k in (1, 2))
    A = A[list(some)]
    np.testing.assert_allclose(Az, np.einsum("tnij,tnj->tni", A, z), atol=1e-12)
    assert set(np.unique(z)) == {-1, 1}
    exact = np.sqrt((A**2).sum() / A[..., 0].size)
    from_1 = np.sqrt(((A - np.eye(24)) ** 2).sum() / A[..., 0].size)
    assert found.step_norm == pytest.approx(exact, rel=0.02 if T > 5 else 0.1)
    assert found.step_from_1 == pytest.approx(from_1, rel=0.02 if T > 5 else 0.1)


def test_a_cell_that_keeps_everything():
    """Gates that do not listen to h, f = 0.9 exactly: every number is known."""
    network = Network().double()
    with torch.no_grad():
        for p in network.layer.parameters():
            p.zero_()
        network.layer.bias_hh_l0[H : 2 * H] = np.log(9)
    monitor = undertow.FlowMonitor(network)
    network(batch().double()).sum().backward()
    (record,) = monitor.step()
    found = record.summary
    assert found.f_mean == pytest.approx(0.9)
    assert found.f_low == pytest.approx(0.9)
    assert found.carousel_log == pytest.approx(T * np.log(0.9))
    assert found.step_norm == pytest.approx(0.9)
    assert found.step_from_1 == pytest.approx(0.1)
    assert found.growth == pytest.approx(np.log(0.9))
    assert (found.horizon_e, found.horizon_1pct) == (10, np.inf)  # 0.9¹⁰ = 0.349; 0.9³⁰ = 0.042
    assert found.gradient_ratio == pytest.approx(0.9**T)
    assert found.lags == T


def test_the_error_is_followed_from_where_it_reaches():
    """A loss that stops listening half way, and one that reads c_n alone."""
    for listen, lags in (lambda y, c: y[9].sum(), 10), (lambda y, c: c.sum(), T):
        network = Network().double()
        monitor = undertow.FlowMonitor(network)
        y, (_, c_n) = network.layer(batch().double())
        listen(y, c_n).backward()
        (record,) = monitor.step()
        assert record.summary.lags == lags
        assert record.summary.growth < 0


def test_a_gradient_that_fades_is_followed_as_far_as_float32_can():
    network = Network("rnn")
    with torch.no_grad():
        network.layer.weight_hh_l0.mul_(1e-3)
    monitor = undertow.FlowMonitor(network)
    network(batch()).sum().backward()
    (record,) = monitor.step()
    assert -12 < record.summary.growth < -6
    assert record.summary.horizon_1pct == 1


def test_no_gradient_at_all_is_no_number():
    network = Network().double()
    monitor = undertow.FlowMonitor(network)
    (network(batch().double()) * 0).sum().backward()
    (record,) = monitor.step()
    assert np.isnan([record.summary.growth, record.summary.horizon_e, record.summary.gradient_ratio]).all()
    assert record.summary.gradient_last == 0
    assert 0 < record.summary.f_mean < 1


def test_a_network_that_has_diverged_is_recorded_without_a_word():
    network = Network()
    with torch.no_grad():
        network.layer.weight_hh_l0.fill_(torch.nan)
    monitor = undertow.FlowMonitor(network)
    network(batch()).sum().backward()
    (record,) = monitor.step()
    assert np.isnan(record.summary.f_mean)


# ------------------------------------------------------------------------------------- when


def test_every_so_many_steps():
    network = Network()
    monitor = undertow.FlowMonitor(network, every=4)
    train(network, monitor, steps=9)
    assert [record.step for record in monitor.records] == [0, 4, 8]
    assert repr(monitor) == "FlowMonitor('layer', every=4: 9 steps, 3 records)"


def test_a_resumed_training_goes_on_counting():
    network = Network()
    monitor = undertow.FlowMonitor(network, every=5)
    monitor.steps = 10
    train(network, monitor, steps=6)
    assert [record.step for record in monitor.records] == [10, 15]


def test_evaluation_in_between_is_not_recorded():
    network, plain = Network(), Network()
    monitor = undertow.FlowMonitor(network, every=2)

    def evaluate():
        with torch.no_grad():
            network(batch(99))
        network.eval()
        network(batch(98))  # not even with gradients
        network.train()

    train(network, monitor, steps=5, after=evaluate)
    other = undertow.FlowMonitor(plain, every=2)
    train(plain, other, steps=5)
    assert monitor.records == other.records


def test_of_accumulated_gradients_the_last_batch_is_recorded():
    network, twin = Network(), Network()
    monitor = undertow.FlowMonitor(network)
    train(network, monitor, accumulate=3)
    other = undertow.FlowMonitor(twin)
    twin(batch(2)).square().mean().backward()
    other.step()
    assert len(monitor.records) == 1
    assert monitor.records == other.records


@both_cells
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_calls_that_torch_checkpoints(cell, options, reentrant):
    """torch.utils.checkpoint makes the call again during backward, and may not go back through that one."""
    network, twin = Network(cell, **options), Network(cell, **options)
    monitor, other = undertow.FlowMonitor(network), undertow.FlowMonitor(twin)
    x = batch().requires_grad_()
    for _ in range(2):
        checkpoint(network, x, use_reentrant=reentrant).sum().backward()
    twin(batch().requires_grad_()).sum().backward()
    assert monitor.step() == other.step() != []


def test_the_call_that_backward_reached_is_recorded():
    network, twin = Network(), Network()
    monitor, other = undertow.FlowMonitor(network), undertow.FlowMonitor(twin)
    out = network(batch())
    network(batch(1))  # a target, say, that no loss looks at
    out.sum().backward()
    network(batch(2))
    twin(batch()).sum().backward()
    assert monitor.step() == other.step() != []


def test_several_modules_by_their_names():
    model = torch.nn.ModuleDict({"a": undertow.LSTM(C, H), "b": undertow.RNN(H, H)})
    monitor = undertow.FlowMonitor(model)
    model["b"](model["a"](batch())[0])[0].sum().backward()
    monitor.step()
    assert [(record.name, record.cell) for record in monitor.records] == [("a.l0", "lstm"), ("b.l0", "rnn")]


def test_a_model_that_is_the_module():
    layer = undertow.LSTM(C, H)
    monitor = undertow.FlowMonitor(layer)
    layer(batch())[0].sum().backward()
    assert [record.name for record in monitor.step()] == ["l0"]


# ----------------------------------------------------------------------- what it leaves alone


@both_cells
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.3}])
def test_training_gives_the_same_bits(cell, options):
    network, plain = Network(cell, **options), Network(cell, **options)
    torch.manual_seed(0)
    found = train(network, undertow.FlowMonitor(network, every=2), steps=7, accumulate=2)
    torch.manual_seed(0)
    for a, b in zip(found, train(plain, steps=7, accumulate=2), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_kept_or_hooked_between_samples():
    network = Network()
    monitor = undertow.FlowMonitor(network, every=10)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    seen = []
    for k in range(3):
        x = batch(k).requires_grad_()
        y = network.layer(x)[0]
        seen += [weakref.ref(x), weakref.ref(y), weakref.ref(y.grad_fn)]
        network.head(y[-1]).sum().backward()
        optimizer.step()
        monitor.step()
        assert not network.layer._forward_hooks
        assert not network.layer._forward_pre_hooks
    del x, y
    gc.collect()
    assert not [ref for ref in seen if ref() is not None]


def test_while_it_watches_only_the_last_call_is_kept():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    seen = []
    for k in range(3):
        x = batch(k)
        seen.append(weakref.ref(x))
        network(x).sum().backward()
    del x
    gc.collect()
    assert sum(ref() is not None for ref in seen) <= 1
    monitor.step()
    assert len(monitor.records) == 1


def test_copies_and_pickles_of_the_model_take_no_monitor_along():
    network = Network()
    monitor = undertow.FlowMonitor(network, writer=object())  # which has no pickle that means anything
    for twin in copy.deepcopy(network), pickle.loads(pickle.dumps(network)):
        twin(batch(7)).sum().backward()
    network(batch()).sum().backward()
    (record,) = undertow.FlowMonitor.step(_without_writer(monitor))
    other = Network()
    again = undertow.FlowMonitor(other)
    other(batch()).sum().backward()
    assert again.step() == [record]


def _without_writer(monitor):
    monitor.writer = None
    return monitor


def test_a_trace_of_the_users_own_is_left_to_him():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    with undertow.trace(network) as trace:
        network(batch()).sum().backward()
        with pytest.warns(UserWarning, match=r"'layer' at step 0: an undertow\.trace was watching it"):
            monitor.step()
    assert trace["layer"].layers[0].dc.shape == (T + 1, N, H)


def test_an_error_in_the_model_leaves_nothing_behind():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    with pytest.raises((RuntimeError, ValueError)):
        network(torch.zeros(T, N, C + 1))
    network(batch()).sum().backward()
    assert len(monitor.step()) == 1


def test_a_call_that_ctrl_c_ended():
    network = Network()
    monitor = undertow.FlowMonitor(network)

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = network.layer.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        network(batch())
    hook.remove()
    assert listening.traced.get()  # torch ran no hook
    network(batch()).sum().backward()
    assert not listening.traced.get()
    assert len(monitor.step()) == 1


def test_bfloat16():
    network = Network().bfloat16()
    monitor = undertow.FlowMonitor(network)
    network(batch().bfloat16()).sum().backward()
    (record,) = monitor.step()
    assert record.summary.growth < 0
    assert 0 < record.summary.f_mean < 1


def test_it_can_be_closed_and_go_on():
    network = Network()
    monitor = undertow.FlowMonitor(network, every=2)
    monitor.close()
    train(network, monitor, steps=3)
    assert [record.step for record in monitor.records] == [2]


# ------------------------------------------------------------------ what cannot be recorded, and why


def missing(monitor, expected):
    with pytest.warns(
        UserWarning, match="FlowMonitor: nothing was recorded of 'layer' at step 0: "
    ) as caught:
        assert monitor.step() == []
    assert expected in monitor.missing["layer"]
    assert expected in str(caught[0].message)
    assert caught[0].filename == __file__


def test_not_called():
    missing(undertow.FlowMonitor(Network()), "it was not called")


def test_no_backward():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    network(batch())
    missing(monitor, "backward has not come to this call")


def test_only_evaluated():
    network = Network().eval()
    monitor = undertow.FlowMonitor(network)
    network(batch())
    missing(monitor, "evaluation mode")


def test_what_the_kernels_do_not_compute():
    network = Network("rnn", nonlinearity="relu")
    monitor = undertow.FlowMonitor(network)
    network(batch()).sum().backward()
    missing(monitor, "nonlinearity 'relu' has no native kernel")


def test_training_in_segments():
    """Whose gradients a trace would change in their last bits."""
    network, plain = Network(checkpoint=7), Network(checkpoint=7)
    monitor = undertow.FlowMonitor(network)
    network(batch()).sum().backward()
    missing(monitor, "it trains in segments")
    plain(batch()).sum().backward()
    assert torch.equal(network.layer.weight_hh_l0.grad, plain.layer.weight_hh_l0.grad)


def test_a_compiled_model_is_torchs_to_run():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    torch.compile(network, backend="eager")(batch()).sum().backward()
    missing(monitor, "torch.compile")


def test_empty_sequences():
    network = Network()
    monitor = undertow.FlowMonitor(network)
    network(batch(), lengths=[0] * N).sum().backward()
    missing(monitor, "every sequence was empty")


def test_a_warning_comes_once_and_the_reason_goes_when_it_works():
    network = Network()
    monitor = undertow.FlowMonitor(network, every=1)
    missing(monitor, "it was not called")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.step()
        assert monitor.missing
        train(network, monitor)
    assert not monitor.missing
    assert [record.step for record in monitor.records] == [2]


@pytest.mark.parametrize("options", [{"every": 0}, {"sequences": 0}])
def test_numbers_below_one(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        undertow.FlowMonitor(Network(), **options)


def test_no_model():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module"):
        undertow.FlowMonitor(3)
    with pytest.raises(ValueError, match=r"model: .*undertow\.convert"):
        undertow.FlowMonitor(torch.nn.LSTM(2, 3))


def test_summary_refuses_what_does_not_fit():
    network = undertow.LSTM(C, H, dtype=torch.float64)
    with undertow.trace(network) as trace:
        network(batch().double())[0].sum().backward()
    way = trace.layers[0]
    dh, dc = way.source.steps.dh, way.source.steps.dc
    with pytest.raises(ValueError, match=r"dh: expected shape \[31, 6, 5\], got \[30, 6, 5\]"):
        flow.last_error(way.tape, dh[1:], dc)
    with pytest.raises(ValueError, match="dc: expected an array"):
        flow.last_error(way.tape, dh)


# --------------------------------------------------------------------------------- where it goes


@pytest.fixture
def trained():
    network = Network("lstm", bidirectional=True)
    monitor = undertow.FlowMonitor(network, every=2)
    train(network, monitor, steps=3)
    return monitor


def test_to_dicts(trained):
    rows = trained.to_dicts()
    assert len(rows) == 4
    assert [row["reverse"] for row in rows] == [False, True] * 2
    assert rows[2] == {"step": 2, "module": "layer", "layer": 0, "reverse": False, "cell": "lstm"} | asdict(
        trained.records[2].summary
    )


def test_csv(trained, tmp_path):
    trained.save(tmp_path / "flow.csv")
    with (tmp_path / "flow.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(row) for row in trained.to_dicts()]
    for row, expected in zip(rows, trained.to_dicts(), strict=True):
        assert float(row["f_mean"]) == expected["f_mean"]
        assert float(row["horizon_1pct"]) == expected["horizon_1pct"]


def test_a_table_read_by_polars_draws_the_same(tmp_path):
    polars = pytest.importorskip("polars")
    network = Network("rnn", bidirectional=True)
    monitor = undertow.FlowMonitor(network, every=1)
    for _ in range(3):
        network(batch()).sum().backward()
        monitor.step()
    monitor.save(tmp_path / "flow.csv")
    rows = polars.read_csv(tmp_path / "flow.csv").to_dicts()
    assert [(row["step"], row["reverse"]) for row in rows] == [
        (k, way) for k in range(3) for way in (False, True)
    ]
    figures = [undertow.plots.flow_over_training(records)[1] for records in (monitor.records, rows)]
    for a, b in zip(*figures, strict=True):
        for line, same in zip(a.lines, b.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


def test_json_is_strict(trained, tmp_path):
    def refuse(name):
        raise AssertionError(name)

    trained.save(tmp_path / "flow.json")
    rows = json.loads((tmp_path / "flow.json").read_text(), parse_constant=refuse)
    for row, expected in zip(rows, trained.to_dicts(), strict=True):
        for name, value in expected.items():
            finite = not isinstance(value, float) or np.isfinite(value)
            assert row[name] == (value if finite else None)


def test_another_ending(trained, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected one that ends in \.csv or \.json, got .*flow\.txt"):
        trained.save(tmp_path / "flow.txt")


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    network = Network()
    with tensorboard.SummaryWriter(tmp_path) as writer:
        monitor = undertow.FlowMonitor(network, every=2, writer=writer)
        train(network, monitor, steps=5)
    events = EventAccumulator(str(tmp_path)).Reload()
    found = events.Scalars("flow/layer.l0/f_mean")
    assert [event.step for event in found] == [0, 2, 4]
    expected = [record.summary.f_mean for record in monitor.records]
    np.testing.assert_allclose([event.value for event in found], expected, rtol=1e-6)
    tags = events.Tags()["scalars"]
    assert len(tags) == len(asdict(monitor.records[0].summary))


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.filterwarnings("ignore")  # Lightning's and its dependencies' own
def test_lightning(package, tmp_path):
    lightning = pytest.importorskip(package)
    from importlib import import_module

    loggers = import_module(f"{package}.loggers")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = Network()

        def training_step(self, x, _):
            return self.network(x[0].transpose(0, 1)).square().mean()

        def validation_step(self, x, _):
            self.log("validation", self.network(x[0].transpose(0, 1)).square().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    def fit(*callbacks):
        module = Module()
        if callbacks:
            monitor = undertow.FlowMonitor(module, every=3)
            callbacks = [monitor.callback()]
        sequences = torch.utils.data.TensorDataset(
            torch.cat([batch(k) for k in range(14)], dim=1).transpose(0, 1)
        )
        loader = torch.utils.data.DataLoader(sequences, N)
        trainer = lightning.Trainer(
            default_root_dir=tmp_path, max_epochs=1, accumulate_grad_batches=2, val_check_interval=4,
            logger=loggers.CSVLogger(tmp_path), log_every_n_steps=1, accelerator="cpu",
            callbacks=list(callbacks), enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module, loader, loader)
        return [p.detach() for p in module.parameters()], trainer, callbacks and monitor

    plain, *_ = fit()
    found, trainer, monitor = fit(True)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert monitor.steps == trainer.global_step == 7
    assert [record.step for record in monitor.records] == [0, 3, 6]
    assert {record.name for record in monitor.records} == {"network.layer.l0"}
    with Path(trainer.logger.experiment.metrics_file_path).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("flow/network.layer.l0/f_mean")]
    assert [int(row["step"]) for row in rows] == [0, 3, 6]
    assert float(rows[2]["flow/network.layer.l0/f_mean"]) == pytest.approx(monitor.records[2].summary.f_mean)


def test_lightning_is_not_imported_for_it(monkeypatch):
    for package in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(
        RuntimeError, match=r"expected lightning\.pytorch or pytorch_lightning to have been imported"
    ):
        undertow.FlowMonitor(Network()).callback()
