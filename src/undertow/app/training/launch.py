"""How several processes of one training find each other.

Those of ``--devices`` are started here. Lightning Fabric reads the variables of torchrun and SLURM, and
connects the processes.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
from typing import Any

from undertow.app.training import interface
from undertow.app.training.alone import ALONE, Alone
from undertow.app.training.deadline import within
from undertow.app.training.place import Lost, Place

GRACE = 10.0  # seconds that processes have to end when the first one ends


def join(here: Place | None, device: str, timeout: float) -> Alone:
    """Connect the processes, and start those of ``--devices``.

    Args:
        here: Which of them this is; None if it trains alone.
        device: auto, cpu or cuda.
        timeout: Seconds that a process waits for the others.

    Returns:
        The processes.

    Raises:
        Lost: There are too few devices, or the processes do not find each other.
    """
    if here is None:
        return ALONE
    others = _start_others(here) if here.launcher == "--devices" and not here.rank else []
    from undertow.app.training.processes import Team

    atexit.register(_end, others)
    try:
        fabric = _fabric(here, device, timeout)
        with within(here, timeout, lambda: _ended(others)):
            fabric.launch()
    except (RuntimeError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise Lost(f"process {here.rank + 1} of {here.size}: cannot join the others: {why}") from None
    return Team(here, fabric.device, timeout)


def _fabric(here: Place, device: str, timeout: float) -> Any:
    from datetime import timedelta

    from lightning_fabric import Fabric, _logger, plugins
    from lightning_fabric.strategies.ddp import DDPStrategy

    from undertow.app.training.device import chosen

    _logger.setLevel("WARNING")  # not that the processes have met
    kind = chosen(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    name = {"--devices": "Lightning", "torchrun": "TorchElastic"}.get(here.launcher, here.launcher)
    if name == "SLURM":  # Fabric asks for it, and only ``--ntasks-per-node`` sets it
        os.environ["SLURM_NTASKS_PER_NODE"] = str(here.local_size)
    environment = getattr(plugins.environments, f"{name}Environment")()
    strategy = DDPStrategy(
        cluster_environment=environment,
        process_group_backend=backend,
        timeout=timedelta(seconds=timeout),
    )
    nodes = here.size // here.local_size
    if nodes > 1:
        interface.choose(environment.main_address)
    return Fabric(accelerator=kind, devices=here.local_size, num_nodes=nodes, strategy=strategy)


# -- the processes of --devices -------------------------------------------------------------------
# Fabric can start them, too. It would watch them in a thread that kills the first process, without a word,
# when another one fails, and that may still run while the interpreter ends.


def _start_others(here: Place) -> list[subprocess.Popen[bytes]]:
    """Start this command again for each further process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": "0", "NODE_RANK": "0"}
    command = [sys.executable, "-m", "undertow", *sys.argv[1:]]
    return [
        subprocess.Popen(command, env=os.environ | {"LOCAL_RANK": str(rank)}) for rank in range(1, here.size)
    ]


def _ended(others: list[subprocess.Popen[bytes]]) -> str | None:
    """Say which of the started processes has failed; None if none has."""
    for rank, other in enumerate(others, 1):
        if code := other.poll():
            return f"process {rank + 1} ended with exit code {code}"
    return None


def _end(others: list[subprocess.Popen[bytes]]) -> None:
    """Disconnect, so that no process waits for this one, and see that the processes it started end."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    until = time.monotonic() + GRACE
    for other in others:
        try:
            other.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:  # it hangs, or was stopped
            other.kill()
            other.wait()
