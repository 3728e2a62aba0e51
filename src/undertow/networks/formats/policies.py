"""Recurrent policies of sb3-contrib (RecurrentPPO), zip files of Stable-Baselines3.

``policy.pth`` is a state dict: ``lstm_actor``, then ``mlp_extractor.policy_net``, then ``action_net``; for
the values ``lstm_critic``, ``mlp_extractor.value_net`` and ``value_net`` (sb3_contrib/common/recurrent/
policies.py). ``data`` is JSON whose objects stand as pickles, which are never read, beside plain texts, which
tell the kind of policy, of spaces and of activations.
"""

import re
from typing import Any

from undertow.networks.formats import pickled
from undertow.networks.formats.content import Archive, join, load_json, object_at, plain
from undertow.networks.formats.state_dict import OF_LAYER, linear, recurrent
from undertow.networks.network import Network, Stage, Unsupported

PARTS = {  # part -> LSTM, layers between, head
    "actor": ("lstm_actor.", "mlp_extractor.policy_net.", "action_net"),
    "critic": ("lstm_critic.", "mlp_extractor.value_net.", "value_net"),
}
OTHERS = ("log_std", "critic.")  # of no use for a network: noise of actions, a critic without an LSTM
ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid", "Identity": ""}


def is_policy(archive: Archive) -> bool:
    """Tell whether an archive is a policy of Stable-Baselines3."""
    return {"data", "policy.pth"} <= set(archive.names)


def from_archive(data: bytes, part: str = "actor") -> Network:
    """Make the network of a policy.

    Args:
        data: The file.
        part: ``actor``, whose outputs are the logits of discrete actions or the means of continuous ones, or
            ``critic``, whose output is the value.

    Returns:
        The LSTM, the layers after it and the head. Its inputs are the observations as the policy gets them:
        flat, discrete ones one-hot, after any VecNormalize, which this file does not hold.

    Raises:
        Unsupported: The policy has no LSTM for this part, or extracts features from images or dictionaries.
        ValueError: The file is damaged, or there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"part: expected {' or '.join(PARTS)}, got {part}")
    archive = Archive(data)
    about = object_at(load_json(archive.read("data"), "data"), "data")
    tensors, _ = pickled.read(archive.read("policy.pth"))
    strange = [name for name in tensors if not _is_known(name)]
    if strange:
        raise Unsupported(
            f"{join(strange, 3)}: expected LSTMs, then linear layers, and no layer before the observations"
        )
    lstm, between, head = PARTS[part]
    if part == "critic" and not _has(tensors, lstm) and not _has(tensors, "critic."):
        lstm = "lstm_actor."  # shared
    if not _has(tensors, lstm):
        raise Unsupported(f"{lstm}weight_ih_l0: expected a policy with an LSTM for the {part}")
    stages: list[Stage] = recurrent(tensors, lstm)
    activation = _activation(about)
    pattern = re.compile(re.escape(between) + r"(\d+)\.weight")
    places = sorted(int(found[1]) for name in tensors if (found := pattern.fullmatch(name)))
    stages += [linear(tensors, f"{between}{k}", activation) for k in places]
    stages.append(linear(tensors, head))
    spaces = {name: _kind(about.get(name)) for name in ("observation_space", "action_space")}
    version = ""
    if "_stable_baselines3_version" in archive.names:
        version = archive.read("_stable_baselines3_version").decode(errors="replace").strip()
    return Network(tuple(stages), metadata=plain({"stable_baselines3": version, "part": part, **spaces}))


def _is_known(name: str) -> bool:
    layer, module = OF_LAYER.fullmatch(name), re.sub(r"\.(weight|bias)$", "", name)
    for lstm, between, head in PARTS.values():
        inner = module.startswith(between) and module[len(between) :].isdecimal()
        if (layer and layer[1] == lstm) or (module != name and (inner or module == head)):
            return True
    return name.startswith(OTHERS)


def _has(tensors: dict[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)


def _kind(value: Any) -> str:
    """The class of an object that stands as a pickle, such as ``Box``."""
    said = value.get(":type:", "") if isinstance(value, dict) else ""
    found = re.search(r"(\w+)'>$", str(said))
    return found[1] if found else ""


def _activation(about: dict[str, Any]) -> str:
    """The activation of the layers between, tanh unless the policy says otherwise."""
    kwargs = about.get("policy_kwargs")
    said = kwargs.get("activation_fn") if isinstance(kwargs, dict) else None
    if said is None:
        return "tanh"
    found = re.search(r"(\w+)'>$", str(said))
    name = found[1] if found else str(said)
    if name not in ACTIVATIONS:
        raise Unsupported(f"activation_fn: expected {', '.join(ACTIVATIONS)}, got {name}")
    return ACTIVATIONS[name]
