"""Training that starts from another run's weights: which options, facts and tensors are taken over.

The layers are always taken, and what they read: the alphabet, or the columns and their normaliser. The head
is taken where its outputs mean the same, and otherwise made anew.
"""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from undertow.app.errors import UserError
from undertow.app.runs import config
from undertow.app.runs.config import ModelConfig
from undertow.app.runs.folder import Run, fingerprint
from undertow.app.words import line

if TYPE_CHECKING:
    from undertow.app.data import Known
    from undertow.app.runs.model import SequenceModel

WEIGHTS = "model.safetensors"
FREE = {
    "dropout",
    "noise",
    "validation",
    "delay",
    "channel",
}  # may differ from the run's, and are not taken from it
FIXED = {"task", "symbols", "vocabulary", "gaps", *(field.name for field in fields(ModelConfig))} - FREE
MEANING = ("task", "target", "horizon", "label", "per")  # options on which the meaning of the outputs depends


def with_options(run: Run, given: dict[str, Any]) -> dict[str, Any]:
    """Add a run's options to those given.

    Args:
        run: The run whose weights are taken.
        given: Values by option.

    Returns:
        The options given, and the run's where they are not given.

    Raises:
        UserError: An option contradicts the run.
    """
    task, found = run.data.task, dict(given)
    for option in config.options():
        name = option.name
        if name in FREE or hasattr(run.training, name) or task not in option.option.tasks:
            continue
        theirs = getattr(run.data if hasattr(run.data, name) else run.model, name)
        if name == "readout" and "step" in (run.data.per, given.get("per")):
            continue  # every step is read: no value of --readout
        has = run.facts["symbols"] if name == "symbols" else theirs  # inferred, if the option was not given
        if name in FIXED and name in given and given[name] != has:
            raise UserError(
                f"{option.flag} {given[name]}: contradicts --init-from {run.folder}, which has "
                f"{'none' if has is None else f'{option.flag} {has}'}; leave it out"
            )
        if name not in given:
            found |= {} if theirs in (None, (), False) else {name: theirs}
    return found


def known(run: Run) -> "Known":
    """Return what a run found out about its data, and its normaliser."""
    from undertow.app.data import Known

    return Known(run.facts, dict(run.load_model().named_buffers()))


def take(model: "SequenceModel", new: Run, run: Run) -> str:
    """Copy the weights of a run into a new model.

    Args:
        model: The new model, with its own initial weights.
        new: The run of the new model.
        run: The run whose weights are taken.

    Returns:
        What was taken, in words.

    Raises:
        UserError: The data of the new run have other features.
    """
    if (new.model.inputs, new.model.symbols) != (run.model.inputs, run.model.symbols):
        raise UserError(
            f"--init-from {run.folder}: its network reads {run.model.inputs or run.model.symbols} features; "
            f"these data have {new.model.inputs or new.model.symbols}"
        )
    theirs, mine = run.load_model().state_dict(), model.state_dict()
    differ = differences(new, run)
    taken = {name: value for name, value in theirs.items() if not (differ and is_head(name))}
    for name, value in taken.items():
        if name not in mine or mine[name].shape != value.shape:
            raise UserError(f"--init-from {run.folder}: its network has another {name}")
    model.load_state_dict(mine | taken)
    what = "embedding and layers" if run.model.symbols else "layers"
    what += ", columns and normaliser" if "columns" in run.facts else ""
    head = f"; the head is new, since the {differ[0]} is another" if differ else ", and head"
    return line(f"weights of {run.folder}: {what}{head}")


def is_head(name: str) -> bool:
    """Tell whether a tensor belongs to what stands between the last hidden state and the outputs."""
    return not name.startswith(("embedding.", "series.", "rnn.")) and name not in ("centre", "scale")


def differences(new: Run, run: Run) -> list[str]:
    """Name what gives the outputs of two runs another meaning; nothing if the same head serves both."""
    pairs: list[tuple[str, Any, Any]] = [
        ("--per" if name == "per" else name, getattr(new.data, name), getattr(run.data, name))
        for name in MEANING
    ]
    pairs.append(("set of classes", new.facts.get("classes"), run.facts.get("classes")))
    if new.data.task == "problem":
        pairs.append(("problem", new.data.source, run.data.source))
    pairs.append(("window", new.model.autoregression, run.model.autoregression))
    pairs.append(("number of outputs", new.model.outputs, run.model.outputs))
    return [name for name, mine, theirs in pairs if mine != theirs]


def record(run: Run) -> dict[str, str]:
    """Return what config.json keeps: the folder, and the SHA-256 of its weights."""
    return {
        "run": str(run.folder.resolve()),
        "sha256": fingerprint(run.path(WEIGHTS))["sha256"],
    }
