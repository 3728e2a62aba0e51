"""ONNX models of modules, run by ONNX Runtime beside the module: every layer one node, T and N free."""

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import undertow
from undertow.networks import Unsupported
from undertow.onnx import export, translations
from undertow.onnx.translation import LAYER

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

T, N, C, H = 7, 4, 3, 5


def filled(module):
    """All parameters drawn: peepholes and initial states are zero at the start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    return module


def ran(model, *inputs):
    """The outputs of a model in ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, (each.numpy() for each in inputs), strict=True)))


def kinds(model):
    return [node.op_type for node in model.graph.node if node.op_type in ("LSTM", "RNN", "Loop", "Scan")]


CASES = {
    "plain": ({}, False),
    "stacked in both directions": ({"num_layers": 2, "bidirectional": True}, False),
    "without bias": ({"bias": False}, False),
    "batch first": ({"batch_first": True}, False),
    "lengths": ({"bidirectional": True}, True),
    "lengths, batch first": ({"num_layers": 2, "batch_first": True}, True),
    "peepholes": ({"peepholes": True}, False),
    "peepholes, both directions, lengths": ({"peepholes": True, "bidirectional": True}, True),
    "coupled": ({"coupled": True}, False),
    "learnt initial state": ({"learn_initial_state": True, "num_layers": 2}, False),
    "a width for each layer": ({"hidden_size": [5, 3]}, False),
    "dropout": ({"dropout": 0.5, "num_layers": 2, "recurrent_dropout": 0.3, "weight_drop": 0.2}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_lstm(name):
    options, lengths = CASES[name]
    module = filled(undertow.LSTM(C, **{"hidden_size": H} | options))
    D, L = 1 + module.bidirectional, module.num_layers
    shape = (N, T, C) if module.batch_first else (T, N, C)
    kwargs = {"lengths": torch.tensor([7, 3, 0, 2])} if lengths else {}
    made = export(module, (torch.randn(shape),), kwargs=kwargs)
    assert kinds(made.model) == ["LSTM"] * L
    assert len(made.model.graph.node) <= 8 * L + 4  # the weights are in ONNX's order in the file
    assert made.error <= 1e-6
    sizes = [dim.dim_param or dim.dim_value for dim in made.model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == (["N", "T", C] if module.batch_first else ["T", "N", C])
    assert len({shapes[0] for shapes in made.shapes}) == 4
    # apart from the export's own comparison: other sizes than those it takes
    steps, batch = 11, 9
    x = torch.randn((batch, steps, C) if module.batch_first else (steps, batch, C))
    given = {"lengths": torch.randint(0, steps + 1, (batch,))} if lengths else {}
    with torch.no_grad():
        y, (h_n, c_n) = module.eval()(x, **given)
    found = ran(made.model, x, *given.values())
    h_n, c_n = ((h_n,), (c_n,)) if isinstance(h_n, torch.Tensor) else (h_n, c_n)
    assert y.shape[-1] == D * (3 if "width" in name else H)
    for got, right in zip(found, (y, *h_n, *c_n), strict=True):
        np.testing.assert_allclose(got, right.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_rnn(phi):
    module = undertow.RNN(C, H, 2, nonlinearity=phi, bidirectional=True)
    made = export(module, (torch.randn(T, N, C), torch.randn(4, N, H)))
    assert kinds(made.model) == ["RNN", "RNN"]
    x, h_0 = torch.randn(2, 3, C), torch.randn(4, 3, H)
    for got, right in zip(ran(made.model, x, h_0), module(x, h_0), strict=True):
        np.testing.assert_allclose(got, right.detach().numpy(), rtol=0, atol=1e-6)


def test_states_are_inputs_and_outputs():
    """A sequence cut in two gives what it gives whole."""
    module = undertow.LSTM(C, H, 2)
    state = torch.randn(2, N, H), torch.randn(2, N, H)
    model = export(module, (torch.randn(T, N, C), state), input_names=["x", "h_0", "c_0"]).model
    assert [each.name for each in model.graph.input] == ["x", "h_0", "c_0"]
    assert [each.name for each in model.graph.output] == ["y", "h_n", "c_n"]
    x = torch.randn(9, 2, C)
    h_0, c_0 = torch.zeros(2, 2, H), torch.zeros(2, 2, H)
    y, h_n, c_n = ran(model, x, h_0, c_0)
    first, *middle = ran(model, x[:4], h_0, c_0)
    second, *last = ran(model, x[4:], *map(torch.from_numpy, middle))
    np.testing.assert_allclose(np.concatenate([first, second]), y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(last, [h_n, c_n], rtol=0, atol=1e-6)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, C)
        self.rnn = undertow.LSTM(C, H, bidirectional=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2 * H, 2)

    def forward(self, symbols, lengths):
        y, _ = self.rnn(self.embedding(symbols), lengths=lengths)
        return self.head(self.drop(y))


def test_a_program_that_holds_ours(tmp_path):
    module = Tagger()
    module.drop.eval()  # its own mode, which stays
    symbols, lengths = torch.randint(0, 11, (T, N)), torch.tensor([7, 2, 0, 5])
    made = export(module, (symbols, lengths), tmp_path / "tagger.onnx")
    assert module.training
    assert not module.drop.training
    assert kinds(made.model) == ["LSTM"]
    symbols, lengths = torch.randint(0, 11, (12, 2)), torch.tensor([12, 1])
    (found,) = ran(made.model, symbols, lengths)
    right = module.eval()(symbols, lengths).detach().numpy()
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-6)
    assert (tmp_path / "tagger.onnx").read_bytes() == made.model.SerializeToString()


def test_the_table_serves_programs_that_torch_exports():
    module = undertow.LSTM(C, H)
    free = ({0: torch.export.Dim("T", min=2), 1: torch.export.Dim("N", min=2)},)
    program = torch.export.export(module, (torch.randn(T, N, C),), dynamic_shapes=free)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made = torch.onnx.export(program, custom_translation_table=translations(), dynamo=True, verbose=False)
    x = torch.randn(3, 2, C)
    found = ran(made.model_proto, x)
    y, (h_n, c_n) = module(x)
    for got, right in zip(found, (y, h_n, c_n), strict=True):
        np.testing.assert_allclose(got, right.detach().numpy(), rtol=0, atol=1e-6)
    assert set(translations()) == {LAYER}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"layer_norm": True}, "layer_norm"),
        ({"zoneout": 0.1}, "zoneout"),
        ({"proj_size": 2}, "proj_size"),
    ],
)
def test_an_option_that_onnx_does_not_have_is_named(options, name):
    model = nn.ModuleDict({"inner": undertow.LSTM(C, H, **options)})
    model.forward = lambda x: model["inner"](x)[0]
    with pytest.raises(Unsupported, match=f"^inner: ONNX has no operator for {name}$"):
        export(model, (torch.randn(T, N, C),))


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_an_argument_that_onnx_does_not_have_is_named(name):
    with pytest.raises(Unsupported, match=f"ONNX has no operator for {name}$"):
        export(undertow.LSTM(C, H), (torch.randn(T, N, C),), kwargs={name: torch.rand(T, N) < 0.5})


class FixedSteps(nn.Module):
    """A program whose number of steps stands in a weight."""

    def __init__(self):
        super().__init__()
        self.rnn, self.weight = undertow.LSTM(C, H), nn.Parameter(torch.randn(T, 1, 1))

    def forward(self, x):
        return (self.rnn(x)[0] * self.weight).sum(0)


def test_a_fixed_number_of_steps_is_refused_and_can_be_asked_for():
    module, x = FixedSteps(), torch.randn(T, N, C)
    with pytest.raises(ValueError, match=r"^args: expected a free number of steps, and rnn has 7: "):
        export(module, (x,))
    made = export(module, (x,), dynamic_shapes={"x": {1: torch.export.Dim.AUTO}})
    assert [shapes[0] for shapes in made.shapes] == [(T, N, C), (T, N + 2, C), (T, N, C), (T, 1, C)]


def test_one_sequence_as_example_is_refused():
    with pytest.raises(ValueError, match="expected a free number of sequences, and model has 1"):
        export(undertow.LSTM(C, H), (torch.randn(T, 1, C),))


class Differs(nn.Module):
    """A module that computes something else when it is not recorded."""

    def __init__(self):
        super().__init__()
        self.rnn = undertow.LSTM(C, H)

    def forward(self, x):
        y = self.rnn(x)[0]
        return y if torch.compiler.is_exporting() else y + 1e-4


def test_a_difference_is_reported_and_nothing_is_written(tmp_path):
    path = tmp_path / "wrong.onnx"
    with pytest.raises(
        RuntimeError, match=r"^output 0: expected ONNX Runtime within 1e-06 of the module, got 1\.0e-04"
    ):
        export(Differs(), (torch.randn(T, N, C),), path)
    assert not path.exists()
    assert export(Differs(), (torch.randn(T, N, C),), path, verify=False).error is None
    assert path.exists()


def test_float64_cannot_be_compared():
    with pytest.raises(RuntimeError, match=r"^ONNX Runtime cannot run the model: .*verify=False"):
        export(undertow.LSTM(C, H, dtype=torch.float64), (torch.randn(T, N, C, dtype=torch.float64),))


@pytest.mark.parametrize("library", ["onnxruntime", "onnxscript"])
def test_a_missing_library_is_named_with_its_remedy(monkeypatch, library):
    monkeypatch.setattr("undertow.onnx.checking.installed", lambda name: name != library)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {library}: pip install 'undertow\[onnx\]'"):
        export(undertow.LSTM(C, H), (torch.randn(T, N, C),))


@pytest.mark.parametrize("kind", [undertow.LSTM, undertow.RNN])
def test_awkward_sizes(kind):
    """One unit, one feature; C above and below H."""
    for features, hidden in ((1, 1), (2, 33), (17, 2)):
        made = export(kind(features, hidden), (torch.randn(T, N, features),))
        assert made.error <= 1e-6
