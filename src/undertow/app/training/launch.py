"""How several processes of one training find each other.

Lightning Fabric starts those of ``--devices``, reads the variables of torchrun and SLURM and connects all.
"""

from typing import Any

from undertow.app.training.alone import ALONE, Alone
from undertow.app.training.place import Lost, Place


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
    from undertow.app.training.processes import Team

    try:
        fabric = _fabric(here, device, timeout)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise Lost(f"process {here.rank + 1} of {here.size}: cannot join the others: {why}") from None
    return Team(here, fabric.device)


def _fabric(here: Place, device: str, timeout: float) -> Any:
    from datetime import timedelta

    from lightning_fabric import Fabric, _logger
    from lightning_fabric.strategies.ddp import DDPStrategy

    from undertow.app.training.device import chosen

    _logger.setLevel("WARNING")  # not that the processes have met
    kind = chosen(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    strategy = DDPStrategy(process_group_backend=backend, timeout=timedelta(seconds=timeout))
    nodes = here.size // here.local_size
    return Fabric(accelerator=kind, devices=here.local_size, num_nodes=nodes, strategy=strategy)
