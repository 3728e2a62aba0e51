"""Policies of sb3-contrib, laid out by hand; in tests/clients/formats the program makes them."""

import base64
import io
import json
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reference import run
from undertow.networks import read


def policy(path: Path, modules: dict[str, nn.Module], **data: object) -> nn.ModuleDict:
    held = nn.ModuleDict(modules)
    file = io.BytesIO()
    torch.save(held.state_dict(), file)
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("data", json.dumps({"policy_kwargs": {}} | data))
        zipped.writestr("policy.pth", file.getvalue())
        zipped.writestr("_stable_baselines3_version", "2.9.2")
    return held


def net(*sizes: int) -> nn.Sequential:
    layers = [each for pair in pairwise(sizes) for each in (nn.Linear(*pair), nn.Tanh())]
    return nn.Sequential(*layers)


def modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    between = nn.ModuleDict({"policy_net": net(5, 4, 4), "value_net": net(5, 3)})
    return {
        "lstm_actor": nn.LSTM(3, 5), "lstm_critic": nn.LSTM(3, 5), "mlp_extractor": between,
        "action_net": nn.Linear(4, 2), "value_net": nn.Linear(3, 1),
    }  # fmt: skip


def test_actor_and_critic(tmp_path: Path) -> None:
    held = policy(tmp_path / "a.zip", modules(), action_space={":type:": "<class 'gymnasium.spaces.Box'>"})
    x = torch.randn(6, 1, 3)
    between = held["mlp_extractor"]
    actor = held["action_net"](between["policy_net"](held["lstm_actor"](x)[0]))
    critic = held["value_net"](between["value_net"](held["lstm_critic"](x)[0]))
    for part, expected in (("", actor), ("actor", actor), ("critic", critic)):
        network = read(tmp_path / "a.zip", part)
        np.testing.assert_allclose(run(network, x.numpy()), expected.detach(), atol=1e-6)
        assert network.metadata["action_space"] == "Box"


@pytest.mark.parametrize(
    ("change", "data", "part", "words"),
    [
        ({"features_extractor": nn.Conv1d(2, 2, 2)}, {}, "", "features_extractor.weight"),
        (
            {"mlp_extractor": nn.ModuleDict({"policy_net": nn.Sequential(net(5, 5), nn.Linear(5, 4))})},
            {},
            "",
            "mlp_extractor.policy_net.0.0.weight",
        ),
        ({"lstm_actor": None}, {}, "", "lstm_actor.weight_ih_l0: expected a policy with an LSTM"),
        ({"lstm_critic": None, "critic": nn.Linear(3, 5)}, {}, "critic", "an LSTM for the critic"),
        (
            {},
            {"policy_kwargs": {"activation_fn": "<class 'torch.nn.activation.ELU'>"}},
            "",
            "got ELU",
        ),
        ({}, {}, "actors", "part: expected actor or critic"),
    ],
)
def test_refused(change: dict, data: dict, part: str, words: str, tmp_path: Path) -> None:
    changed = {name: each for name, each in (modules() | change).items() if each is not None}
    policy(tmp_path / "a.zip", changed, **data)
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "a.zip", part)


def test_other_files_have_no_parts(tmp_path: Path) -> None:
    torch.save(nn.LSTM(2, 3).state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="part: expected none"):
        read(tmp_path / "a.pt", "critic")


def test_the_pickles_in_data_are_not_read(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"
    pickled = base64.b64encode(f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()).decode()
    pickle.loads(base64.b64decode(pickled))
    assert mark.exists()  # so it would be seen
    mark.unlink()
    evil = {":type:": "<class 'os.system'>", ":serialized:": pickled}
    policy(tmp_path / "a.zip", modules(), observation_space=evil)
    assert read(tmp_path / "a.zip").metadata["observation_space"] == "system"
    assert not mark.exists()
