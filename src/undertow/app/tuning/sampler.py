"""What the next trial tries."""

import zlib
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, TPESampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class Sampler(BaseSampler):
    """The tree-structured Parzen estimator (Bergstra et al. 2011), with random numbers of each trial's own.

    They follow from the seed, the number of the trial and the option. So workers of one study never draw the
    same, and a study of one worker that was interrupted goes on as if it had not been.

    Args:
        seed: The seed of the study.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def infer_relative_search_space(
        self, study: "Study", trial: "FrozenTrial"
    ) -> "dict[str, BaseDistribution]":
        """Return no options: each is drawn by itself."""
        return {}

    def sample_relative(
        self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        """Return no values: each is drawn by itself."""
        return {}

    def sample_independent(
        self, study: "Study", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        """Draw a value of one option."""
        seed = zlib.crc32(f"{self.seed} {trial.number} {param_name}".encode())
        return TPESampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)
