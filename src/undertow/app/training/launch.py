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
PORT = "undertow/port"  # the key under which the first process says where its store is


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
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
                _meet(here, fabric.device.type, timeout)
            fabric.launch()
    except (RuntimeError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise Lost(f"process {here.rank + 1} of {here.size}: cannot join the others: {why}") from None
    return Team(here, fabric.device, timeout)


def _fabric(here: Place, device: str, timeout: float) -> Any:
    from datetime import timedelta

    from lightning_fabric import Fabric, _logger, plugins
    from lightning_fabric.strategies.ddp import DDPStrategy

    from undertow.app.runs.device import chosen

    _logger.setLevel("WARNING")  # not that the processes have met
    kind = chosen(device)
    name = {"--devices": "Lightning", "torchrun": "TorchElastic"}.get(here.launcher, here.launcher)
    if name == "SLURM":  # Fabric asks for it, and only ``--ntasks-per-node`` sets it
        os.environ["SLURM_NTASKS_PER_NODE"] = str(here.local_size)
    environment = getattr(plugins.environments, f"{name}Environment")()
    strategy = DDPStrategy(
        cluster_environment=environment,
        process_group_backend=_backend(kind),
        timeout=timedelta(seconds=timeout),
    )
    nodes = here.size // here.local_size
    if nodes > 1:
        interface.choose(environment.main_address)
    return Fabric(accelerator=kind, devices=here.local_size, num_nodes=nodes, strategy=strategy)


def _backend(kind: str) -> str:
    return "nccl" if kind == "cuda" else "gloo"


def _meet(here: Place, kind: str, timeout: float) -> None:
    """Connect the processes that torchrun has started.

    torchrun keeps one store for all its restarts, with the addresses of processes that are gone. So the first
    process keeps a new store, and torchrun's says where it is.
    """
    from datetime import timedelta

    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    wait, host = timedelta(seconds=timeout), os.environ["MASTER_ADDR"]
    kept = TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=False, timeout=wait)
    if here.rank == 0:
        store = TCPStore(host, 0, is_master=True, timeout=wait, wait_for_workers=False)
        kept.set(PORT, str(store.port))
    else:
        store = _store_of_the_first(kept, host, time.monotonic() + timeout)
        store.set_timeout(wait)
    distributed.init_process_group(
        _backend(kind), store=store, rank=here.rank, world_size=here.size, timeout=wait
    )


def _store_of_the_first(kept: Any, host: str, until: float) -> Any:
    """The store of the first process. Where an earlier start said it was, nobody answers."""
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    while True:
        port = int(kept.get(PORT))
        try:
            return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=1))
        except RuntimeError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


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
