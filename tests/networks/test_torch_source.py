"""Networks written as programs: run where undertow cannot be imported, beside the float64 loop."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from made import ALL, dense, draw, input_of, lstm, norms, rnn
from reference import run
from undertow.networks import Bidirectional, Network, Pool, Recurrent, Unsupported, write

MORE = {
    "plain, relu, initial state": Network((rnn(3, 4, nonlinearity="relu", h_0=draw(4)), dense(4, 2))),
    "two modules": Network((lstm(2, 5), dense(5, 3, "sigmoid"), lstm(3, 4, h_0=draw(4)), dense(4, 1))),
    "three layers": Network((lstm(2, 5), lstm(5, 5), lstm(5, 5))),
    "projection": Network((lstm(2, 5, 3, weight_hr=draw(3, 5)), lstm(3, 5, 3, weight_hr=draw(3, 5)))),
    "last": Network((lstm(2, 5), dense(5, 2, "softmax")), once=True),
    "both, initial states": Network(
        (Bidirectional(lstm(2, 3, c_0=draw(3)), lstm(2, 3, reverse=True, h_0=draw(3))), dense(6, 2))
    ),
    "skip, fewer outputs": Network((lstm(2, 5), dense(5, 2)), skip=1),
}
CASES = {name: network for name, network in ALL.items() if name != "options"} | MORE
LENGTHS = (9, 1, 4)
CODE = """
import json, sys
sys.modules["undertow"] = None  # an import fails
import numpy as np, torch
folder, names = sys.argv[1], json.loads(sys.argv[2])
sys.path.insert(0, folder)
for name, streams in names.items():
    model = __import__(name).load()
    x = torch.from_numpy(np.load(f"{folder}/{name}.x.npy"))
    with torch.no_grad():
        if streams:
            states, found = None, []
            for begin, end in ((0, 4), (4, 5), (5, 9)):
                y, states = model(x[begin:end], states)
                found.append(y)
            found = [torch.cat(found)]
        else:
            found = [model(x), model(x, torch.tensor([9, 1, 4]))]
    for k, y in enumerate(found):
        np.save(f"{folder}/{name}.{k}.npy", y.numpy())
"""


def streams(network: Network) -> bool:
    return not network.once and not any(isinstance(s, Bidirectional) for s in network.stages)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of all programs, by one process."""
    folder, given = tmp_path_factory.mktemp("programs"), {}
    for k, network in enumerate(CASES.values()):
        write(network, folder / f"program_{k}.py")
        np.save(folder / f"program_{k}.x.npy", input_of(network, 9, 3))
        given[f"program_{k}"] = streams(network)
    command = [sys.executable, "-c", CODE, str(folder), json.dumps(given)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_the_program_computes_the_network(name: str, folder: Path) -> None:
    network, k = CASES[name], list(CASES).index(name)
    x, y = input_of(network, 9, 3), np.load(folder / f"program_{k}.0.npy")
    right = run(network, x)
    np.testing.assert_allclose(y, right[-1] if network.once else right, atol=1e-6)
    if streams(network):
        return
    y = np.load(folder / f"program_{k}.1.npy")
    for n, length in enumerate(LENGTHS):
        right = run(network, x[:length, n : n + 1])
        got, right = (y[n], right[-1, 0]) if network.once else (y[:length, n], right[:, 0])
        np.testing.assert_allclose(got, right, atol=1e-6)


def test_the_program_names_what_the_outputs_are(folder: Path) -> None:
    program = (folder / f"program_{list(CASES).index('symbols')}.py").read_text()
    assert "LABELS = ['a', 'b', 'c', 'd', 'e', 'f', 'g']" in program
    assert max(map(len, program.splitlines())) <= 120


@pytest.mark.parametrize(
    ("layer", "words"),
    [(lstm(2, 3, peepholes=draw(3, 3)), "peepholes"), (lstm(2, 3, coupled=True), "coupled"),
     (lstm(2, 3, **norms(3)), "layer norm"), (lstm(2, 3, zoneout=(0.1, 0)), "zoneout")],
)  # fmt: skip
def test_what_torchs_modules_have_no_place_for(layer: Recurrent, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=f"PyTorch: no place for {words}"):
        write(Network((layer,)), tmp_path / "a.py")
    assert not list(tmp_path.iterdir())


def test_skip_around_a_pool_is_refused(tmp_path: Path) -> None:
    network = Network((lstm(2, 3), Pool("mean", 3), dense(3, 2)), skip=1)
    with pytest.raises(Unsupported, match="PyTorch: skip: expected an answer at every step"):
        write(network, tmp_path / "a.py")
