"""``undertow bench``: tables from validated timings, and refusal to time what differs."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from undertow.app.bench import memory, peers, speed, tuned
from undertow.app.bench import view as bench_view

SMALL = speed.Shape(2, 3, 4, 5)
DEEP = speed.Shape(2, 3, 4, 5, num_layers=2, bidirectional=True)

needs_glibc = pytest.mark.skipif(not tuned.available(), reason="malloc has no tunables here")
needs_linux = pytest.mark.skipif(not memory.available(), reason="this system does not tell the peak")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(speed, "QUICK", [SMALL])
    monkeypatch.setattr(speed, "PAUSE", 0.0)


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(tuned, "available", lambda: False)


class Fake:
    """A contestant whose turns are written down."""

    trains = True

    def __init__(self, name, book):
        self.name = name
        self.book = book

    def prepare(self, task):
        self.book.append(self.name)
        return speed.Module(self.name, torch.nn.LSTM).prepare(task)

    def seconds(self, count):
        self.book.append((self.name, count))
        return 0.01


def spread_of(value):
    return (value, value, value)


def timing(**changed):
    others = {"nn.LSTM": speed.Against(spread_of(0.2), spread_of(2.0))}
    made = speed.Timing(SMALL, False, 1, spread_of(0.1), others, flops=1e9, peak=4e10, handover=5e-8)
    return replace(made, **changed)


def test_times_every_shape_and_writes_the_figures(undertow, tmp_path, quick, no_worker):
    result = undertow("bench", "--repeats", 2, "--threads", "1,2", "--output", "out.json")
    assert result.code == 0
    assert result.out.count("2,3,4,5") >= 4
    assert "of peak" in result.out and "GFLOP/s" in result.out and "core to core" in result.out
    figures = json.loads((tmp_path / "out.json").read_text())
    rows = figures["rows"]
    assert [(row["threads"], row["training"]) for row in rows] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]
    for row in rows:
        assert row["seconds"][1] > 0 and row["gflops"][0] > 0 and row["handover_ns"] > 0
        assert row["of_peak"] == pytest.approx(row["gflops"][0] / row["peak_gflops"])
        assert row["others"] == {}
    assert {"machine", "versions", "rows"} == set(figures)


@needs_glibc
def test_the_tuned_worker_is_timed_too(undertow, tmp_path, quick):
    result = undertow("bench", "--repeats", 2, "--output", "out.json")
    assert result.code == 0
    assert result.out.count("tuned nn.LSTM") >= 4  # a column and a mean, for inference and for training
    for row in json.loads((tmp_path / "out.json").read_text())["rows"]:
        assert row["others"]["tuned nn.LSTM"]["ratio"][1] > 0


@needs_glibc
def test_the_worker_answers_tasks_with_results_and_counts_with_seconds():
    with tuned.Tuned() as worker:
        for training in (False, True):
            task = speed.make_task(DEEP, training, 1)
            speed.validate([worker, speed.Module("nn.LSTM", torch.nn.LSTM)], task)
            assert worker.seconds(3) > 0
    assert worker._worker.returncode == 0


@needs_glibc
def test_the_worker_is_started_with_the_tunables(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **given: started.append((command, given)))
    tuned.Tuned()
    [(command, given)] = started
    assert command == [sys.executable, "-m", "undertow.app.bench.tuned"]
    assert "glibc.malloc.mmap_threshold=2000000000" in given["env"]["GLIBC_TUNABLES"].split(":")


@needs_glibc
def test_a_worker_that_has_died(undertow, quick, monkeypatch):
    def die(self, task):
        self._worker.kill()
        return self._ask(task)

    monkeypatch.setattr(tuned.Tuned, "prepare", die)
    result = undertow("bench", "--repeats", 2)
    assert result.code == 2
    assert "tuned nn.LSTM: its process ended with code -9" in result.err


def test_all_take_turns_after_all_are_ready(quick):
    book = []
    others = [Fake("a", book), Fake("b", book)]
    timing = speed.compare(SMALL, False, 1, repeats=2, at_least=0.04, others=others)
    assert book == ["a", "b", ("a", 1), ("b", 1), ("a", 4), ("b", 4), ("a", 4), ("b", 4)]
    assert list(timing.others) == ["nn.LSTM", "a", "b"]
    assert timing.others["a"].seconds == pytest.approx((0.01, 0.01, 0.01))


def test_who_does_not_train_is_left_out_of_training(quick):
    other = Fake("a", [])
    other.trains = False
    assert list(speed.compare(SMALL, True, 1, 1, 0.0, [other]).others) == ["nn.LSTM"]
    assert list(speed.compare(SMALL, False, 1, 1, 0.0, [other]).others) == ["nn.LSTM", "a"]


class OtherWeights(torch.nn.LSTM):
    def load_state_dict(self, weights):
        pass


def test_wrong_results_are_not_timed(undertow, monkeypatch, quick, no_worker):
    monkeypatch.setattr("undertow.LSTM", OtherWeights)
    result = undertow("bench", "--repeats", 2)
    assert result.code == 2
    assert "2,3,4,5: undertow: y differs" in result.err
    assert "not timed" in result.err


def test_wrong_results_of_another_are_not_timed(quick):
    with pytest.raises(AssertionError, match=r"wrong: y differs from nn.LSTM's"):
        speed.compare(SMALL, False, 1, others=[speed.Module("wrong", OtherWeights)])


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("shape", [SMALL, DEEP], ids=str)
def test_peers_agree_with_nn(package, shape):
    pytest.importorskip("onnx")
    pytest.importorskip(package)
    [peer] = [peer for peer in peers.available() if type(peer).__name__.lower() == f"_{package}"]
    speed.validate([peer, speed.Module("nn.LSTM", torch.nn.LSTM)], speed.make_task(shape, False, 1))
    assert peer.seconds(1) > 0


def test_weights_in_the_order_of_onnx():
    task = speed.make_task(DEEP, False, 1)
    W, R, B = peers.layer_weights(task, 1)
    assert (W.shape, R.shape, B.shape) == ((2, 20, 10), (2, 20, 5), (2, 40))
    i, f, g, o = task.weights["weight_hh_l1_reverse"].chunk(4)
    assert (R[1] == torch.cat([i, o, f, g]).numpy()).all()


def test_peers_compete_where_asked(undertow, tmp_path, monkeypatch, quick, no_worker):
    monkeypatch.setattr(peers, "available", lambda: [Fake("a peer", [])])
    assert "a peer" not in undertow("bench", "--repeats", 1).out
    result = undertow("bench", "--repeats", 1, "--peers", "--output", "out.json")
    assert "a peer" in result.out
    assert "a peer" in json.loads((tmp_path / "out.json").read_text())["rows"][0]["others"]


def test_no_peer_is_installed(undertow, monkeypatch, quick, no_worker):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    result = undertow("bench", "--peers")
    assert result.code == 2
    assert "--peers: expected ONNX Runtime or OpenVINO" in result.err


@needs_linux
def test_memory(undertow, tmp_path, monkeypatch, quick, no_worker):
    """Three tapes of nn.LSTM at 64,64,8,64 hold more than the y that every module returns, 1 MiB."""
    monkeypatch.setattr(speed, "QUICK", [speed.Shape(64, 64, 8, 64)])
    result = undertow("bench", "--repeats", 1, "--memory", "--output", "out.json")
    assert "peak memory" in result.out
    [row] = json.loads((tmp_path / "out.json").read_text())["training_memory"]
    assert row["shape"] == "64,64,8,64"
    assert set(row["bytes"]) == {"undertow", "nn.LSTM"}
    assert all(2**20 < count < 2**30 for count in row["bytes"].values())


def test_memory_where_the_system_does_not_tell(undertow, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: False)
    result = undertow("bench", "--memory")
    assert result.code == 2
    assert "--memory" in result.err


def test_what_the_view_says(capsys):
    slow = timing(shape=DEEP, others={"nn.LSTM": speed.Against(spread_of(0.05), spread_of(0.5))}, peak=0.0)
    assert timing().of_peak == pytest.approx(0.25)
    assert slow.of_peak == 0
    text = bench_view.summary([timing(), slow])
    assert f"1.00 times as fast as nn.LSTM (geometric mean; least 0.50 at {DEEP})" in text
    table = bench_view.speed_table("Inference", [timing(), slow])
    assert list(table.columns[2].cells) == ["25%", "-"]


@pytest.mark.parametrize("values", [[2.0], [2.0, 1.0], [3.0, 1.0, 2.0]], ids=len)
def test_the_spread_of_a_few_lies_among_them(values):
    low, middle, high = speed.spread(values)
    assert min(values) <= low <= middle <= high <= max(values)


def test_flops_counts_layers_and_directions():
    assert SMALL.flops == 2 * 3 * 2 * 20 * 9
    assert DEEP.flops == 2 * (2 * 3 * 2 * 20 * 9) + 2 * (2 * 3 * 2 * 20 * 15)
    assert speed.make_task(SMALL, True, 1).flops == 3 * SMALL.flops


@pytest.mark.parametrize("threads", ["0", "two", "1,-1"])
def test_bad_thread_counts(undertow, threads):
    result = undertow("bench", "--threads", threads)
    assert result.code == 2
    assert "--threads" in result.err


def test_output_into_no_folder(undertow):
    result = undertow("bench", "--output", "nowhere/out.json")
    assert result.code == 2
    assert "--output" in result.err


def test_without_a_gpu(undertow, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device, expected in (
        ("cuda", "--device cuda: expected a CUDA device"),
        ("tpu", "expected cpu, cuda"),
    ):
        done = undertow("bench", "--device", device)
        assert done.code == 2
        assert expected in done.err
        assert done.err.count("\n") == 1


def test_on_a_gpu_options_of_the_cpu_are_refused(undertow, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    done = undertow("bench", "--device", "cuda", "--threads", 2)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--threads" in done.err


def test_a_gpu_is_waited_for_before_and_after_the_calls(monkeypatch, quick):
    told = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: told.append("wait"))
    wait = speed.waiting(torch.device("cuda"))
    assert speed.seconds(lambda: told.append("call"), 2, wait) > 0
    assert told == ["call", "wait", "call", "call", "wait"]


def test_the_comparison_is_exact_and_the_timing_at_the_default(monkeypatch, quick):
    def precision():
        return torch.backends.cudnn.rnn.fp32_precision

    before, found, validate = precision(), [], speed.validate
    monkeypatch.setattr(speed, "validate", lambda *given: (found.append(precision()), validate(*given)))
    timing = speed.compare(SMALL, True, 1, 1, 0.0, device="cpu")
    assert found == ["ieee"]
    assert precision() == before
    assert timing.device == "cpu"
