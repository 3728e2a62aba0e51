"""The demo: the duel is fair and repeatable, its figures are true, and it ends well however it ends."""

import os
import signal
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import torch

from undertow.app.demo import view as duel_view
from undertow.app.demo.duel import ADDING, TEST_SIZE, Duel

PNG = b"\x89PNG"


def run(duel):
    duel.train()
    return duel


def test_lstm_learns_what_the_plain_rnn_does_not():
    """The point of it all, at the demo's own lag with half of its steps."""
    verdicts = run(Duel(seed=0, lag=100, steps=750)).test()
    assert verdicts["LSTM"].error < ADDING.baseline / 10
    assert verdicts["LSTM"].right > 3 * duel_view.CHANCE
    assert verdicts["RNN"].error > 0.9 * ADDING.baseline
    assert verdicts["RNN"].right < 2 * duel_view.CHANCE


def test_same_seed_same_duel():
    first, again, other = (run(Duel(seed, lag=10, steps=30)) for seed in (3, 3, 4))
    assert first.at == again.at == [0, 25, 30]
    assert first.seen == again.seen
    assert first.test() == again.test()
    assert first.seen != other.seen


def test_lstm_gates_start_by_holding_for_one_step_to_the_lag():
    """σ(b_f) holds for u steps where b_f = log u, and b_i = -b_f."""
    layer = Duel(seed=0, lag=50, steps=1).networks["LSTM"].rnn
    i, f, g, o = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().chunk(4)
    assert f.exp().min() >= 1 and f.exp().max() <= 49 and f.exp().std() > 8
    assert torch.equal(i, -f)
    assert not g.any() and not o.any()


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_reach_is_the_gradient_that_autograd_finds(kind):
    """One step of the layer at a time in float64, each state a tensor whose gradient is asked for."""
    lag = 12
    duel = run(Duel(seed=1, lag=lag, steps=20))
    claimed = duel.reach()
    network, watched = duel.networks[kind].double(), duel._watched
    x, target = watched.x[:, :64].double(), watched.y[:64].double()
    h, c = [torch.zeros(1, 64, 64, dtype=torch.float64, requires_grad=True) for _ in "hc"]
    hs, cs = [h], [c]
    for t in range(lag):
        _, states = network.rnn(x[t : t + 1], (h, c) if kind == "LSTM" else h)
        h, c = states if kind == "LSTM" else (states, c)
        hs.append(h)
        cs.append(c)
    E = (network.head(h[0]) - target).square().sum()
    by_h = torch.stack(torch.autograd.grad(E, hs, retain_graph=True))[:, 0]  # [T+1, N, H]
    assert claimed[f"{kind} h"] == pytest.approx(by_lag(by_h), rel=1e-9)
    if kind == "LSTM":
        # the layer returns h_t and c_t side by side: what c_t does through h_t = o tanh(c_t) is added
        below_last = torch.stack(torch.autograd.grad(E, cs[:-1]))[:, 0]
        by_c = torch.cat([below_last, torch.zeros_like(below_last[:1])])
        h_t, tanh_c = torch.stack(hs)[1:, 0], torch.stack(cs)[1:, 0].tanh()
        by_c[1:] += by_h[1:] * h_t / tanh_c * (1 - tanh_c**2)
        assert claimed["LSTM c"] == pytest.approx(by_lag(by_c.detach()), rel=1e-9)


def by_lag(d):
    size = d.norm(dim=-1).flip(0)  # [T+1, N]
    return np.median((size / size[0]).numpy(), axis=1)


def test_reach_of_the_rnn_fades_and_of_the_cell_does_not():
    reach = Duel(seed=0, lag=100, steps=1).reach_before
    assert all(curve.shape == (101,) and curve[0] == 1 for curve in reach.values())
    assert reach["RNN h"][-1] < 1e-15
    assert reach["LSTM c"][-1] > 0.05


def test_trend_puts_all_errors_on_one_scale():
    assert duel_view.trend([1.0, 0.01, 1e-4, 1e-9]) == "█▅▁▁"
    assert len(duel_view.trend(list(np.linspace(1, 0, 500)))) == 24


def test_the_command_shows_both_and_draws_the_picture(undertow, tmp_path):
    result = undertow("demo", "--lag", 12, "--steps", 30, "--out", "pictures")
    assert result.code == 0, result.err
    for said in (
        "LSTM",
        "plain RNN",
        "guessing the mean",
        f"{TEST_SIZE} fresh sequences",
        "gradient at lag 12",
    ):
        assert said in result.out
    picture = tmp_path / "pictures" / "adding.png"
    assert "pictures/adding.png" in result.out
    assert picture.read_bytes().startswith(PNG)
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[1] > 1500
    assert pixels.std() > 0.05  # not an empty sheet
    report = (tmp_path / "pictures" / "report.html").read_text(encoding="utf-8")
    assert "The report: pictures/report.html" in result.out
    assert "LSTM beside plain RNN, 64 units each, adding over 12 steps" in report


def test_the_report_s_sequence_is_one_that_trained_nobody():
    duel = Duel(seed=0, lag=20, steps=1)
    x, target = duel.one_sequence()
    assert x.shape == (20, 1, 2)
    assert (x[..., 0] * x[..., 1]).sum() == pytest.approx(target.item())


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_ends_with_the_result_so_far(undertow, tmp_path, monkeypatch, number, name):
    def interrupted(watch, loop, steps):
        if loop.step == 7:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(duel_view.Watch, "on_step", interrupted)
    result = undertow("demo", "--lag", 12, "--steps", 5000)
    assert result.code == 128 + number
    assert f"Stopped by {name} at step 7 of 5000" in result.out
    assert "guessing the mean" in result.out
    assert (tmp_path / "demo" / "adding.png").read_bytes().startswith(PNG)


def test_a_file_where_the_folder_should_be_is_said_before_training(undertow, tmp_path):
    (tmp_path / "demo").write_text("mine")
    result = undertow("demo")
    assert result.code == 2
    assert result.err.startswith("undertow: --out demo: cannot make this folder")
    assert result.err.count("\n") == 1
    assert (tmp_path / "demo").read_text() == "mine"


@pytest.mark.parametrize("arguments", [("--lag", 3), ("--steps", 0), ("--seed", -1), ("--lag", "far")])
def test_options_out_of_range_are_refused(undertow, arguments):
    result = undertow("demo", *arguments)
    assert result.code == 2
    assert arguments[0] in result.err
    assert "Traceback" not in result.err


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom undertow.app import cli\nsys.argv = ['undertow', 'demo', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False False\n")
