"""ONNX: written, read back, built by hand, refused and run by ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

import onnx
from made import ALL, OPTIONS, dense, draw, input_of, lstm, rnn
from onnx import TensorProto, helper, numpy_helper
from reference import run
from undertow.networks import Network, Pool, Recurrent, Unsupported, read, write

C, H = 2, 3
SKIPPED = ("options", "mean-max", "attention", "ends")  # written differently, or not at all


@pytest.mark.parametrize("name", [name for name in ALL if name not in SKIPPED])
def test_written_and_read_back(name: str, tmp_path: Path) -> None:
    network = ALL[name]
    write(network, tmp_path / "a.onnx")
    found, x = read(tmp_path / "a.onnx"), input_of(network)
    np.testing.assert_array_equal(run(found, x), run(network, x))
    assert (found.labels, found.sample_rate, found.skip) == (
        network.labels,
        network.sample_rate,
        network.skip,
    )


def test_options_that_onnx_has(tmp_path: Path) -> None:
    layers = (*OPTIONS.stages[:2], rnn(4, 3, nonlinearity="relu", h_0=draw(3)), *OPTIONS.stages[5:])
    network = Network(layers)
    write(network, tmp_path / "a.onnx")
    found, x = read(tmp_path / "a.onnx"), input_of(network)
    np.testing.assert_allclose(run(found, x), run(network, x), atol=1e-6)
    assert found.recurrent()[0].coupled and found.recurrent()[0].peepholes is not None


def test_steps_and_sequences_stay_free(tmp_path: Path) -> None:
    write(ALL["stacked"], tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_param for each in dims] == ["T", "N", ""] and dims[2].dim_value == 3


@pytest.mark.parametrize(
    ("network", "words"),
    [(OPTIONS, "ONNX: no place for layer norm"), (Network((lstm(1, 2, zoneout=(0.1, 0)),)), "zoneout"),
     (Network((lstm(1, 4, 2, weight_hr=draw(2, 4)),)), "weight_hr")],
)  # fmt: skip
def test_what_onnx_has_no_place_for(network: Network, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=words):
        write(network, tmp_path / "a.onnx")


# -- by ONNX Runtime ---------------------------------------------------------------------------------

ANSWERS_AT_END = Network((lstm(2, 5), lstm(5, 3), dense(3, 4)), once=True)
RUNTIME = {**{k: v for k, v in ALL.items() if k != "options"}, "last": ANSWERS_AT_END}


def ran(path: Path, **given: np.ndarray) -> dict[str, np.ndarray]:
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def answers(network: Network, x: np.ndarray) -> np.ndarray:
    """By the float64 loop: [T,N,O], or [1,N,O] of a network that answers once."""
    y = run(network, x)
    y = y[None] if y.ndim == 2 else y
    return y[-1:] if network.once else y


@pytest.mark.parametrize("name", RUNTIME)
def test_run_by_onnx_runtime(name: str, tmp_path: Path) -> None:
    network = RUNTIME[name]
    write(network, tmp_path / "a.onnx")
    for T, N in ((9, 2), (1, 1), (4, 5)):
        x = input_of(network, T, N)
        np.testing.assert_allclose(ran(tmp_path / "a.onnx", x=x)["y"], answers(network, x), atol=1e-6)


@pytest.mark.parametrize("name", RUNTIME)
def test_lengths(name: str, tmp_path: Path) -> None:
    """Each sequence gives what it gives alone, cut at its length."""
    network, lengths = RUNTIME[name], np.array([9, 1, 4])
    write(network, tmp_path / "a.onnx", lengths=True)
    x = input_of(network, 9, 3)
    y = ran(tmp_path / "a.onnx", x=x, lengths=lengths)["y"]
    for n, length in enumerate(lengths):
        right = answers(network, x[:length, n : n + 1])
        np.testing.assert_allclose(y[: len(right), n : n + 1], right, atol=1e-6)


STREAMS = {
    **{name: ALL[name] for name in ("amplifier", "skip", "stacked", "dense first", "symbols")},
    "plain": Network((rnn(3, 4), lstm(4, 2, peepholes=draw(3, 2), coupled=True), dense(2, 2))),
}


@pytest.mark.parametrize("name", STREAMS)
def test_states_go_on(name: str, tmp_path: Path) -> None:
    network = STREAMS[name]
    write(network, tmp_path / "a.onnx", states=True)
    layers = network.recurrent()
    state = {f"h_0_l{k}": np.tile(each.h_0, (1, 2, 1)) for k, each in enumerate(layers)}
    lstms = [(k, each) for k, each in enumerate(layers) if each.cell == "lstm"]
    state |= {f"c_0_l{k}": np.tile(each.c_0, (1, 2, 1)) for k, each in lstms}
    x, found = input_of(network), []
    for part in (x[:4], x[4:5], x[5:]):
        given = ran(tmp_path / "a.onnx", x=part, **state)
        found.append(given.pop("y"))
        state = {key.replace("_n_", "_0_"): value for key, value in given.items()}
    np.testing.assert_allclose(np.concatenate(found), run(network, x), atol=1e-6)


@pytest.mark.parametrize(
    ("network", "words"),
    [(ALL["both"], "states: .* both directions"), (ALL["mean"], "states: .* both directions"),
     (Network((lstm(2, 3), Pool("max", 3))), "states: .* a pool, max"),
     (ANSWERS_AT_END, "states: .* an answer at the end")],
)  # fmt: skip
def test_states_of_what_reads_all_steps(network: Network, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=words):
        write(network, tmp_path / "a.onnx", states=True)


def test_states_and_lengths_are_of_onnx(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"states: expected for a name that ends in \.onnx"):
        write(ALL["stacked"], tmp_path / "a.safetensors", states=True)


# -- by hand ----------------------------------------------------------------------------------------

W, R, B, P = draw(1, 4 * H, C), draw(1, 4 * H, H), draw(1, 8 * H), draw(1, 3 * H)
INITIAL = {"W": W, "R": R, "B": B, "P": P, "axis": np.array([1]), "h": draw(1, 1, H), "c": draw(1, 1, H)}


def model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("out",), **initial: np.ndarray) -> bytes:
    tensors = [numpy_helper.from_array(value, name) for name, value in (INITIAL | initial).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", C])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def node(op: str, *inputs: str, out: str = "out", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [out], name=f"my_{op}", **attributes)


def lstm_node(*more: str, out: str = "y", **attributes: object) -> onnx.NodeProto:
    return node("LSTM", "x", "W", "R", "B", *more, out=out, hidden_size=H, **attributes)


def squeezed(*nodes: onnx.NodeProto, **initial: np.ndarray) -> bytes:
    return model(*nodes, node("Squeeze", "y", "axis"), **initial)


def by_equations(x: np.ndarray, peepholes: bool) -> np.ndarray:
    """ONNX's own equations: gates i, o, f, c, two biases, peepholes of i, o, f."""
    h, c = INITIAL["h"][0].astype(float), INITIAL["c"][0].astype(float)
    p_i, p_o, p_f = P[0].reshape(3, H) if peepholes else np.zeros((3, H))
    found = []
    for x_t in x:
        a = x_t @ W[0].T + h @ R[0].T + B[0, : 4 * H] + B[0, 4 * H :]
        a_i, a_o, a_f, a_c = np.split(a, 4, axis=-1)
        i, f = (1 / (1 + np.exp(-(a_k + p * c))) for a_k, p in ((a_i, p_i), (a_f, p_f)))
        c = f * c + i * np.tanh(a_c)
        h = np.tanh(c) / (1 + np.exp(-(a_o + p_o * c)))
        found.append(h)
    return np.stack(found)


@pytest.mark.parametrize("peepholes", [False, True])
def test_gates_biases_states_and_peepholes(peepholes: bool, tmp_path: Path) -> None:
    extra = ("", "h", "c", "P") if peepholes else ("", "h", "c")
    (tmp_path / "a.onnx").write_bytes(squeezed(lstm_node(*extra)))
    x = draw(7, 1, C)
    np.testing.assert_allclose(run(read(tmp_path / "a.onnx"), x), by_equations(x, peepholes), atol=1e-6)


def test_layout_with_sequences_first(tmp_path: Path) -> None:
    """Y is [N,T,1,H]: the axis that is squeezed is another."""
    data = model(lstm_node(layout=1), node("Squeeze", "y", "axis"), axis=np.array([2]))
    (tmp_path / "a.onnx").write_bytes(data)
    (tmp_path / "b.onnx").write_bytes(squeezed(lstm_node()))
    x = draw(5, 2, C)
    np.testing.assert_array_equal(run(read(tmp_path / "a.onnx"), x), run(read(tmp_path / "b.onnx"), x))


def test_states_that_the_caller_gives_are_zero(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(squeezed(lstm_node("", "h_in", "c_in")))
    proto.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "N", H]) for name in ("h_in", "c_in")
    )
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    layer = read(tmp_path / "a.onnx").recurrent()[0]
    assert isinstance(layer, Recurrent) and not layer.h_0.any() and not layer.c_0.any()


@pytest.mark.parametrize("name", ["stacked", "symbols", "both", "last"])
def test_lengths_that_the_caller_gives_are_all_steps(name: str, tmp_path: Path) -> None:
    network = RUNTIME[name]
    write(network, tmp_path / "a.onnx", lengths=True)
    x = input_of(network)
    np.testing.assert_array_equal(run(read(tmp_path / "a.onnx"), x), run(network, x))


def test_the_last_state_is_one_answer(tmp_path: Path) -> None:
    data = model(node("LSTM", "x", "W", "R", "B", out="y", hidden_size=H), outputs=("h_n",))
    proto = onnx.load_model_from_string(data)
    proto.graph.node[0].output.append("h_n")
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "b.onnx").write_bytes(squeezed(lstm_node()))
    last, every = read(tmp_path / "a.onnx"), read(tmp_path / "b.onnx")
    assert last.once and not every.once
    np.testing.assert_array_equal(run(last, x := draw(5, 2, C)), run(every, x))


ACTIVATIONS = ["HardSigmoid", "Tanh", "Tanh"]
REFUSED = {
    "activations": (squeezed(lstm_node(activations=ACTIVATIONS)), Unsupported, "my_LSTM.*got hardsigmoid"),
    "clip": (squeezed(lstm_node(clip=3.0)), Unsupported, r"node my_LSTM \(LSTM\): clip: expected none"),
    "reverse": (squeezed(lstm_node(direction="reverse")), Unsupported, "direction: expected forward or"),
    "gru": (squeezed(node("GRU", "x", "W", "R", "B", out="y")), Unsupported, r"my_GRU \(GRU\): has no"),
    "elu": (model(lstm_node(), node("Elu", "y")), Unsupported, r"node my_Elu \(Elu\): has no counterpart"),
    "none": (model(node("Tanh", "x")), Unsupported, "expected LSTM or RNN nodes"),
    "own": (model(node("LSTM", "x", "W", domain="mine")), Unsupported, "mine: expected ONNX's own operators"),
    "time": (squeezed(node("LSTM", "x", "W", "R", out="q", hidden_size=H),
                      node("Squeeze", "q", "axis", out="s"), node("Transpose", "s", out="t", perm=[1, 0, 2]),
                      node("LSTM", "t", "V", "R", out="y", hidden_size=H), V=draw(1, 12, 3)),
             Unsupported, "does not run along the time"),
    "branches": (model(lstm_node(), node("Squeeze", "y", "axis", out="a"), node("Tanh", "a", out="b"),
                       node("Add", "a", "b")), Unsupported, "adds two signals; expected one chain"),
    "two heads": (model(lstm_node(), node("Squeeze", "y", "axis", out="a"), node("Tanh", "a"),
                        node("Relu", "a", out="b"), outputs=("out", "b")), Unsupported,
                  "two answers, out and b"),
    "width": (squeezed(lstm_node(), R=draw(1, 12, 5)), ValueError, "R: expected shape"),
    "declared": (squeezed(lstm_node(), W=draw(1, 12, 7)), ValueError, "as declared, got weights of 7"),
    "sum": (squeezed(lstm_node(), B=np.full((1, 24), 3e38, np.float32)), ValueError,
            r"stage 0 \(Recurrent\): bias: a number is not finite"),
    "half": (squeezed(lstm_node())[:-20], ValueError, "damaged: no complete ONNX model"),
    "foreign": (b"any text whatever", ValueError, "damaged: no complete ONNX model"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(data: bytes, kind: type, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    with pytest.raises(kind, match=words) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert type(error.value) is kind


def test_weights_in_another_file_are_not_looked_for(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(squeezed(lstm_node()))
    onnx.save(proto, tmp_path / "a.onnx", save_as_external_data=True, location="w", size_threshold=0)
    with pytest.raises(Unsupported, match="weights in another file"):
        read(tmp_path / "a.onnx")


def test_files_damaged_anywhere(tmp_path: Path) -> None:
    write(ALL["both"], tmp_path / "a.onnx")
    data, random = (tmp_path / "a.onnx").read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(data)
        for place in random.integers(len(bad), size=3):
            bad[place] = random.integers(256)
        (tmp_path / "a.onnx").write_bytes(bad)
        try:
            read(tmp_path / "a.onnx")
        except ValueError as error:
            assert str(error).startswith(str(tmp_path))
