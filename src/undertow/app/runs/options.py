"""How an option of ``undertow train`` is declared, checked and shown.

A field of a configuration (``config``) holds everything about an option: its type and range as msgspec reads
them, and an ``Option`` with its help and defaults. From it are made the command line (``signature``), the
checks of values given there (``checked``) and in config.json (``read``), and docs/options.md (``table``).
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from undertow.app.errors import UserError

Config = TypeVar("Config")

TASKS = ("text", "forecast", "classify", "regress", "problem", "sound")
DATA, AHEAD, LABELS, TEXTS, SOUNDS = "Data", "Forecasts", "Labelled sequences", "Text", "Sound"
FILES, MODEL, TRAINING = "How files are read", "Model", "Training"


@dataclass(frozen=True)
class Option:
    """An option of the command line, beside its type and range.

    Args:
        help: One line for ``--help``, which adds the default if it is the same for all tasks.
        panel: The group in which ``--help`` shows it.
        default: One value, or a value for each task; a task that is left out has none, the data decide.
        tasks: The tasks that the option means something for.
        metavar: The name of its value in ``--help``.
        flag: The name on the command line, if it is not the field's.
        given: The type and range on the command line, if config.json may hold more.
    """

    help: str
    panel: str
    default: Any = None
    tasks: tuple[str, ...] = TASKS
    metavar: str | None = None
    flag: str | None = None
    given: Any = None

    def default_of(self, task: str) -> Any:
        """Return the default for ``task``; MISSING if the data decide."""
        return self.default.get(task, MISSING) if isinstance(self.default, Mapping) else self.default


class Declared(NamedTuple):
    """A field with its option."""

    name: str
    type: Any  # with its range on the command line
    option: Option

    @property
    def flag(self) -> str:
        """The name on the command line, such as ``--batch-size``."""
        return "--" + (self.option.flag or self.name.replace("_", "-"))

    @property
    def plain(self) -> Any:
        """The type without its range: str, int, float or bool; list[str] if it may be given several times."""
        kinds = [kind for kind in _kinds(self.type) if kind is not type(None)]
        if self.repeats:
            return list[str]
        return type(get_args(kinds[0])[0]) if get_origin(kinds[0]) is Literal else kinds[0]

    @property
    def repeats(self) -> bool:
        """Whether it may be given several times, with another value each time."""
        return get_origin(_kinds(self.type)[0]) is tuple


def declared(*configs: type) -> Iterator[Declared]:
    """Yield the options among the fields of ``configs``, in their order."""
    for config in configs:
        hints = get_type_hints(config, include_extras=True)
        for field in fields(config):
            found = [a for a in getattr(hints[field.name], "__metadata__", ()) if isinstance(a, Option)]
            if found:
                yield Declared(field.name, found[0].given or hints[field.name], found[0])


# ------------------------------------------------------------------------------------------- checks


def checked(option: Declared, value: Any) -> None:
    """Check a value given on the command line.

    Args:
        option: The option.
        value: Its value.

    Raises:
        UserError: The value has another type or is out of range.
    """
    try:
        msgspec.convert(value, option.type)
    except msgspec.ValidationError:
        wanted = _expected(option.type).removesuffix(" or null")
        raise UserError(f"{option.flag} {value}: expected {wanted}") from None
    if option.repeats:
        for each in value:
            if value.count(each) > 1:
                raise UserError(
                    f"{option.flag} {each}: given {value.count(each)} times; expected another value each time"
                )


def read(kind: type[Config], values: Any, where: str) -> Config:
    """Read a configuration from what JSON holds.

    Args:
        kind: The class of the configuration.
        values: What JSON holds.
        where: The file and entry, for the error message.

    Returns:
        The configuration.

    Raises:
        UserError: A value has another type or is out of range, or a key is unknown or missing: a typing error
            must never train another model than was meant.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a table of options, got {type(values).__name__}")
    known, hints = {field.name: field for field in fields(kind)}, get_type_hints(kind, include_extras=True)  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{where}: unknown option {unknown[0]!r}")
    found = dict(values)
    for name, field in known.items():
        if name not in values:
            if field.default is MISSING:
                raise UserError(f"{where}: option {name!r} is missing")
            continue
        try:
            found[name] = msgspec.convert(values[name], hints[name])
        except msgspec.ValidationError:
            raise UserError(
                f"{where}: {name}: expected {_expected(hints[name])}, got {values[name]!r}"
            ) from None
    return kind(**found)


def _expected(kind: Any) -> str:
    """A type and its range in words: ``a whole number from 1 to 1,000,000``."""
    words = [_words(each, _meta(kind)) for each in _kinds(kind) if each is not type(None)]
    return " or ".join([*words, *(["null"] if type(None) in _kinds(kind) else [])])


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union, without annotations."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Literal, tuple, None):
        return (kind,)
    return tuple(each for part in get_args(kind) for each in _kinds(part))


def _meta(kind: Any) -> Any:
    """The range, from the outermost msgspec.Meta."""
    found = []
    while get_origin(kind) is Annotated:
        found += [a for a in kind.__metadata__ if isinstance(a, msgspec.Meta)]
        kind = get_args(kind)[0]
    for part in get_args(kind) if get_origin(kind) is not Literal else ():
        if get_origin(part) is Annotated:
            found.append(_meta(part))
    return next(iter(found), msgspec.Meta())


def _words(kind: Any, meta: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return "a list of texts" if get_args(kind)[0] is str else "a list of whole numbers"
    name = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
    parts = [
        f"{word} {number:,}" if isinstance(number, int) else f"{word} {number:g}"
        for word, number in (
            ("from", meta.ge), ("above", meta.gt), ("to", meta.le), ("below", meta.lt)
        )
        if number is not None
    ]  # fmt: skip
    return " ".join([name, *parts])


# ------------------------------------------------------------------------------------- command line


def signature(function: Any, options: Iterator[Declared]) -> None:
    """Add options to the signature of a function, from which Typer makes the command line.

    Args:
        function: A function that takes ``**given``.
        options: The options; they become keyword parameters.
    """
    import typer

    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = []
    for each in options:
        flag = each.plain is bool
        both = flag and isinstance(
            each.option.default, Mapping
        )  # on for some tasks, so it can be switched off
        names = f"{each.flag}/--no-{each.flag[2:]}" if both else each.flag
        said = typer.Option(
            names, help=_help(each), rich_help_panel=each.option.panel, metavar=each.option.metavar
        )
        kind: Any = Annotated[each.plain | None, said]
        added.append(
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        )
    first = [p for p in own if p.kind is not p.KEYWORD_ONLY]
    last = [p for p in own if p.kind is p.KEYWORD_ONLY]
    function.__signature__ = inspect.Signature([*first, *added, *last])
    function.__annotations__ = {p.name: p.annotation for p in (*own, *added)}


def _help(each: Declared) -> str:
    default = each.option.default
    if default in (None, ()) or isinstance(default, Mapping) or each.plain is bool:
        return each.option.help
    return f"{each.option.help} (default: {_shown(default)})"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(options: Iterator[Declared]) -> str:
    """Make the table of docs/options.md.

    Args:
        options: The options.

    Returns:
        Markdown, with the help, the range and the defaults of each option.
    """
    rows = ["| option | what it does | value | default |", "|---|---|---|---|"]
    for each in options:
        off = (
            "no value"
            if not isinstance(each.option.default, Mapping)
            else f"no value; `--no-{each.flag[2:]}`"
        )
        kind = off if each.plain is bool else _expected(each.type).removesuffix(" or null")
        kind = "text, several times" if each.repeats else kind
        rows.append(f"| `{each.flag}` | {each.option.help} | {kind} | {_defaults(each.option)} |")
    return "\n".join(rows) + "\n"


def _defaults(option: Option) -> str:
    if not isinstance(option.default, Mapping):
        where = "" if option.tasks == TASKS else f" ({', '.join(option.tasks)})"
        absent = option.default in (None, ()) or option.default is False
        return (("" if absent else _shown(option.default)) + where).strip()
    return ", ".join(f"{task} {_shown(value)}" for task, value in option.default.items())
