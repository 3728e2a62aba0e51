"""The command ``undertow``: its verbs, each loaded when it is called, and how errors are reported.

``undertow --help`` must answer at once, so it imports neither torch nor any verb's file.
"""

import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from undertow import __version__
from undertow.app.errors import UserError, is_out_of_memory
from undertow.app.words import line

# verb -> what it does. The verb is the function of that name in the module of that name in ``verbs``.
VERBS = {
    "train": "Train an LSTM on a text, a table, two recordings or a problem.",
    "tune": "Search for the options with which a network learns best.",
    "generate": "Write text with a trained language model.",
    "predict": "Forecast or label a table, or play a recording.",
    "evaluate": "Say how good a trained model is, beside baselines.",
    "export": "Write a trained network for other programs: ONNX, C, PyTorch, NAM.",
    "info": "Say what is in a run folder.",
    "inspect": "Show what a trained network does, on a page.",
    "doctor": "Say what is wrong with a trained network, and what to try.",
    "demo": "Watch an LSTM learn what a plain RNN cannot.",
    "classics": "Solve the literature's long-lag problems, LSTM beside plain RNN.",
    "bench": "Measure this machine's speed against torch.nn.LSTM.",
}
MAY_BE_EMPTY = {"prompt", "missing"}


class _Plain:
    """Shows no type for options that take no value, such as --quiet."""

    def get_params(self, ctx: Any) -> Any:
        found = super().get_params(ctx)  # type: ignore[misc]
        for option in found:
            if getattr(option, "is_flag", False):
                option.metavar = ""
        return found


class _Verb(_Plain, TyperCommand):
    """Words errors for the verb.

    Refuses an option given twice, whose second value would replace the first, and an empty value, as of a
    variable that a shell does not know: an empty path would be the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        single = [each.opts[0] for each in given if each.param_type_name == "option" and not each.multiple]
        for flag in single:
            if single.count(flag) > 1:
                raise UserError(f"{flag}: given {single.count(flag)} times; expected once")
        for each in given:
            value = values.get(each.name)
            if each.name not in MAY_BE_EMPTY and "" in (
                value if isinstance(value, list | tuple) else (value,)
            ):
                raise UserError(f"{each.opts[0]}: expected a value, got an empty one")
        try:
            found: list[str] = super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "param", None)
            if option is None or (value := values.get(option.name)) is None:
                raise
            raise UserError(f"{option.opts[0]} {value}: {_expected(str(error))}") from None
        return found

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:  # which may propose options that this verb does not have
            raise error.where({flag for option in self.params for flag in option.opts}) from error


class _Verbs(_Plain, TyperGroup):
    """Lists the verbs of ``VERBS``; imports a verb when it is about to run."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb for verb in VERBS if find_spec(f"undertow.app.verbs.{verb}")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        return _Verb(cmd_name, help=VERBS[cmd_name])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and command else command, rest


def _expected(message: str) -> str:
    """What the command line's library says of a value that has the wrong type, in our words."""
    if "integer" in message:
        return "expected a whole number"
    if "valid number" in message or "float" in message:
        return "expected a number"
    return message.replace("Input should be", "expected a number" if " than " in message else "expected")


def load(verb: str) -> Any:
    """Import a verb and make its command.

    Args:
        verb: A name in ``VERBS``.

    Returns:
        The command, a click.Command with the verb's options.
    """
    module = import_module(f"undertow.app.verbs.{verb}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name=verb, cls=_Verb, help=None)(getattr(module, verb))
    return typer.main.get_command(alone)


app = typer.Typer(cls=_Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"undertow {__version__}")
        raise typer.Exit


@app.callback(epilog="Help on one command: undertow COMMAND --help. To begin: undertow train FILE")
def undertow(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LSTM networks you can see through, at full speed."""


def main() -> None:
    """Run the command line. An error that the user can put right is one line on stderr and exit code 2."""
    try:
        sys.exit(app(prog_name="undertow", standalone_mode=False))
    except UserError as error:
        _refuse(str(error))
    except typer.Abort:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of the output has gone, as in `undertow generate RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # not foreseen by any check: a name that is too long, a disk that fails
        _refuse(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except Exception as error:
        if hasattr(error, "format_message"):  # of the command line's library, which would draw a box
            _refuse_usage(error)
        if not is_out_of_memory(error):
            raise
        _refuse("not enough memory; a smaller network, batch or number of steps needs less")


def _refuse_usage(error: Any) -> NoReturn:
    """Refuse a command that names no verb, no such option, or too much or too little."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed already
        sys.exit(error.exit_code)
    said, command = error.format_message().rstrip("."), error.ctx.command_path if error.ctx else "undertow"
    _refuse(f"{said[:1].lower()}{said[1:]}; see {command} --help")


def _refuse(message: str) -> NoReturn:
    print(f"undertow: {line(message)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
