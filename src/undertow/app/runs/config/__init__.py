"""The configuration of a run: data, model and training, as in ``config.json``.

A field with an ``Option`` is an option of ``undertow train``. The defaults were chosen by measurement.
"""

from undertow.app.runs.config.checks import check_gaps, check_given, check_meant, check_together
from undertow.app.runs.config.data import DataConfig
from undertow.app.runs.config.declarations import MAY_CHANGE, options, to_dict
from undertow.app.runs.config.defaults import POOLED, epochs_of, with_defaults
from undertow.app.runs.config.kinds import LABELLED
from undertow.app.runs.config.model import ModelConfig
from undertow.app.runs.config.training import TrainConfig

__all__ = [
    "LABELLED",
    "MAY_CHANGE",
    "POOLED",
    "DataConfig",
    "ModelConfig",
    "TrainConfig",
    "check_gaps",
    "check_given",
    "check_meant",
    "check_together",
    "epochs_of",
    "options",
    "to_dict",
    "with_defaults",
]
