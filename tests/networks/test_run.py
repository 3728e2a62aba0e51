"""Run folders: the same outputs as the model of the command line, for every readout; the rest refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reference import run
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.model import SequenceModel
from undertow.networks import Unsupported, read
from undertow.stream import Stream


def model_of(**options: object) -> SequenceModel:
    defaults = {"cell": "lstm", "hidden_size": 5, "num_layers": 2, "dropout": 0.0, "outputs": 3}
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(**defaults | {"readout": "every", "inputs": 2} | options)).eval()
    for value in model.state_dict().values():
        torch.nn.init.uniform_(value, 0.1, 0.7)
    return model


def write(folder: Path, model: SequenceModel, task: str = "classify", **facts: object) -> Path:
    folder.mkdir()
    content = {
        "undertow_run": 1, "model": vars(model.config), "data": {"task": task, "label": "mood"},
        "facts": facts,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("readout", ["every", "last", "mean", "max", "mean-max", "attention"])
def test_readouts(readout: str, bidirectional: bool, tmp_path: Path) -> None:
    model = model_of(readout=readout, bidirectional=bidirectional)
    network = read(write(tmp_path / "a", model, classes=["bad", "fair", "good"]))
    x = torch.randn(6, 2, 2)
    expected, found = model(x)[0].detach().numpy(), run(network, x.numpy())
    np.testing.assert_allclose(found if readout == "every" else found[-1], expected, atol=2e-6)
    assert network.labels == ("bad", "fair", "good") and network.once == (readout != "every")
    if not bidirectional:  # a stream gives at each step what it would give if the sequence ended there
        streamed = Stream(network).process(x[:, 0].numpy())
        np.testing.assert_allclose(streamed, run(network, x.numpy())[:, 0], atol=2e-6)


def test_text_numbers_and_a_plain_rnn(tmp_path: Path) -> None:
    text = model_of(symbols=3, width=4, inputs=0, cell="rnn")
    network = read(write(tmp_path / "a", text, "text", symbols="characters", vocabulary=["a", "b", "c"]))
    x = torch.randint(3, (6, 2))
    np.testing.assert_allclose(run(network, x.numpy()), text(x)[0].detach(), atol=2e-6)
    assert network.labels == ("a", "b", "c")
    np.testing.assert_allclose(Stream(network).process(x[:, 1]), text(x)[0][:, 1].detach(), atol=2e-6)
    numbers = model_of(outputs=1, quantity=True, readout="mean-max")
    network = read(write(tmp_path / "b", numbers, "regress"))
    x = torch.randn(6, 2, 2)
    np.testing.assert_allclose(run(network, x.numpy())[-1], numbers(x)[0].detach(), atol=2e-6)
    assert network.labels == ("mood",)
    np.testing.assert_allclose(Stream(network).process(x[:, 1])[-1], numbers(x)[0][1].detach(), atol=2e-6)


def test_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", model_of())
    content = json.loads((folder / "config.json").read_text())

    def refused(kind: type, words: str, **entries: object) -> None:
        (folder / "config.json").write_text(json.dumps(content | entries))
        with pytest.raises(kind, match=words) as error:
            read(folder)
        assert type(error.value) is kind and str(error.value).startswith(str(folder))

    refused(Unsupported, "a forecast: its windows", model=content["model"] | {"residual": [0]})
    refused(Unsupported, "an embedding of the series", model=content["model"] | {"series": 3})
    refused(Unsupported, "reads 1, got 2", undertow_run=2)
    refused(ValueError, "asks for 3 layers of 5 units, lstm", model=content["model"] | {"num_layers": 3})
    (folder / "members").mkdir()
    refused(Unsupported, "an ensemble; read one of its members")
    (folder / "members").rmdir()
    with pytest.raises(ValueError, match="the weights of a run alone; expected its folder"):
        read(folder / "model.safetensors")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])
    refused(ValueError, "model.safetensors: damaged")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ValueError, match="not a run folder"):
        read(folder)
