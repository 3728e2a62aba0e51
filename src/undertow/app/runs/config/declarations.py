"""All options of ``undertow train``, from the configurations that declare them."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from undertow.app.runs.config.data import DataConfig
from undertow.app.runs.config.model import ModelConfig
from undertow.app.runs.config.training import TrainConfig
from undertow.app.runs.options import Declared, declared

MAY_CHANGE = ("epochs", "minutes", "patience", "device")  # on --resume


def options() -> Iterator[Declared]:
    """Yield the options of ``undertow train``, in the order of the fields."""
    return declared(DataConfig, ModelConfig, TrainConfig)


def to_dict(config: DataConfig | ModelConfig | TrainConfig) -> dict[str, Any]:
    """Return the configuration as JSON holds it."""
    return asdict(config)
