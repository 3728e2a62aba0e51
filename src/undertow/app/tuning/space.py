"""The search space of ``undertow tune``: which options vary, and among which values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from undertow.app.errors import UserError
from undertow.app.runs import config
from undertow.app.runs.options import Declared

if TYPE_CHECKING:  # the space is checked before Optuna is imported
    from optuna.trial import Trial

LOGARITHMIC = 10  # a range that spans this factor or more is drawn on a logarithmic scale
FIXED = (
    "members",
    "seed",
    "device",
    "validation",
    "task",
    "select",
    "logger",
)  # not what a network learns better by

# option -> its values, or those of each task, as --space takes them
DEFAULTS: dict[str, str | dict[str, str]] = {
    "lr": "0.0005..0.02",
    "hidden_size": {
        "text": "64,128,256,512",
        "forecast": "16,32,64,128",
        "classify": "16,32,64,128",
        "regress": "16,32,64,128",
        "problem": "16,32,64,128",
        "sound": "8,12,16,24,32,40",
    },
    "num_layers": "1,2",
    "dropout": {
        "text": "0..0.5",
        "forecast": "0..0.5",
        "classify": "0..0.5",
        "regress": "0..0.5",
        "problem": "0..0.5",
    },
    "batch_size": {
        "text": "16,32,64",
        "forecast": "16,32,64,128",
        "classify": "4,8,16,32",
        "regress": "4,8,16,32",
        "problem": "16,32,64,128",
        "sound": "16,32,64",
    },
    "steps": {"text": "32,64,128", "forecast": "16,32,64,128", "sound": "256,512,1024,2048"},
    "noise": {"classify": "0..1", "regress": "0..1"},
}


@dataclass(frozen=True)
class Domain:
    """The values of one option.

    Args:
        name: The option.
        text: The values as ``--space`` takes them.
        choices: The values to choose from; none for a range.
        low: The lowest value of a range.
        high: The highest value of a range.
    """

    name: str
    text: str
    choices: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None

    @property
    def logarithmic(self) -> bool:
        """Whether the range is drawn on a logarithmic scale."""
        return bool(self.low and self.low > 0 and self.high >= LOGARITHMIC * self.low)

    def suggest(self, trial: "Trial") -> Any:
        """Draw a value for a trial."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, self.high, log=self.logarithmic)
        return trial.suggest_float(self.name, self.low, self.high, log=self.logarithmic)


def space_of(task: str, asked: list[str], given: dict[str, Any]) -> list[Domain]:
    """Make the space of a study.

    Args:
        task: text, forecast, classify, regress, problem or sound.
        asked: Values of ``--space``, such as ``lr=0.001..0.01`` or ``hidden_size=32,64``; they replace those
            of the default space or add to them.
        given: The options that are the same in all trials; they leave the default space.

    Returns:
        The options that vary.

    Raises:
        UserError: A value of ``--space`` has no such form, or the option cannot take it.
    """
    texts = {name: text if isinstance(text, str) else text.get(task, "") for name, text in DEFAULTS.items()}
    texts = {name: text for name, text in texts.items() if text and name not in given}
    declared = {option.name: option for option in config.options()}
    for each in asked:
        name, sign, text = each.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not sign or name not in declared or name in FIXED or declared[name].repeats:
            raise UserError(
                f"--space {each}: expected OPTION=VALUES of an option that may vary, such as lr=0.001..0.01"
            )
        if name in given:
            raise UserError(f"--space {each}: {declared[name].flag} {given[name]} is the same in all trials")
        texts[name] = text.strip()
    return [_domain(declared[name], text) for name, text in texts.items()]


def _domain(option: Declared, text: str) -> Domain:
    """The values of an option, each of which it could be given."""
    where = f"--space {option.name}={text}"
    if ".." in text:
        low, high = (_value(option, part, where) for part in text.split("..", 1))
        if isinstance(low, bool | str) or not low < high:
            raise UserError(f"{where}: expected LOWEST..HIGHEST")
        return Domain(option.name, text, low=low, high=high)
    choices = tuple(_value(option, part, where) for part in text.split(","))
    if len(set(choices)) < len(choices):
        raise UserError(f"{where}: expected different values")
    return Domain(option.name, text, choices)


def _value(option: Declared, text: str, where: str) -> Any:
    """A value of an option from its text. Raises UserError if the option cannot take it."""
    text = text.strip()
    value: Any = {"true": True, "false": False}.get(text, text)
    if option.plain in (int, float):
        try:
            value = option.plain(text)
        except ValueError:
            raise UserError(f"{where}: expected {option.plain.__name__} values, got {text!r}") from None
    try:
        config.check_given({option.name: value})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return value
