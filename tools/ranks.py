"""``undertow`` in several processes, forked from one that has imported torch already: starting costs little.

The variables are those that torchrun sets, so that each process takes part as one of torchrun's.
"""

import io
import os
import socket
import sys
import traceback
from contextlib import redirect_stderr, suppress
from importlib import import_module
from pathlib import Path

os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"  # read when torch is imported

import torch

from undertow.app import cli, main
from undertow.app.training import curve, processes, session  # noqa: F401  (imported before the fork)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def fork(arguments: list[str], variables: dict[str, str], output: Path) -> int:
    """Start ``undertow ...`` in a process of its own; its number."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            os.environ.update(variables)
            sys.argv = ["undertow", *arguments]
            main()
            code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start(arguments: list[str], size: int) -> list[int]:
    """Start one training in ``size`` processes; their numbers. Process k prints into the file ``said-k``."""
    if size == 1:
        return [fork(arguments, {}, Path("said-0"))]
    port = str(free_port())
    return [
        fork(
            arguments,
            {
                "TORCHELASTIC_RUN_ID": "forked",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "LOCAL_WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            Path(f"said-{rank}"),
        )
        for rank in range(size)
    ]


def ended(process: int) -> int:
    """The exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def said(size: int) -> str:
    return "".join(Path(f"said-{rank}").read_text() for rank in range(size))


def prepare() -> None:
    """Import what the processes need, before they are forked."""
    import lightning_fabric  # noqa: F401

    torch.set_num_threads(1)
    for module, _ in session.TASKS.values():
        import_module(module)
    cli.load("train")
    sys.argv = ["undertow", "train", "nowhere", "--epochs", "1"]
    with suppress(SystemExit), redirect_stderr(io.StringIO()):
        cli.main()
