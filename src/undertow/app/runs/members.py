"""The members of an ensemble: whole run folders in ``members/1`` to ``members/K`` of the ensemble's folder.

config.json           the options of all members, and how many they are
members/k             a run whose network starts from another seed
ensemble.json         the scores, written when all members are trained
interval.safetensors  of a forecast, the correction of the ensemble's intervals
"""

from dataclasses import asdict, dataclass, replace

from undertow.app.errors import UserError
from undertow.app.outputs import atomically
from undertow.app.runs import records
from undertow.app.runs.facts import converted
from undertow.app.runs.folder import MEMBERS, SCORES, Run, open_run


@dataclass(frozen=True)
class Scores:
    """The scores on the validation part, in the unit of the run.

    Args:
        ensemble: That of the mean of all members.
        members: That of each member.
    """

    ensemble: float
    members: list[float]


def is_ensemble(run: Run) -> bool:
    """Whether the run has several members."""
    return run.training.members > 1


def plan(whole: Run, k: int) -> Run:
    """Make the run of a member, as it is before its training.

    Args:
        whole: The ensemble.
        k: The number of the member, from 1.

    Returns:
        The run. Its data are split and ordered as those of all members; its time is its share of the budget.
    """
    training = whole.training
    minutes = training.minutes / training.members
    return replace(
        whole,
        folder=whole.folder / MEMBERS / str(k),
        training=replace(training, members=1, member=k, minutes=minutes),
    )


def of(run: Run) -> list[Run]:
    """List the runs whose networks answer together.

    Args:
        run: A run.

    Returns:
        The members of an ensemble, or the run itself.

    Raises:
        UserError: A member is missing, damaged or not trained yet.
    """
    if not is_ensemble(run):
        return [run]
    if scores(run) is None:
        raise UserError(
            f"{run.folder}: an ensemble of {run.training.members} members that are not all trained; "
            f"undertow train --resume {run.folder} trains them"
        )
    return [_member(run, k) for k in range(1, run.training.members + 1)]


def first(run: Run) -> Run:
    """Return the first member of an ensemble, for what shows a single network; else the run itself."""
    return _member(run, 1) if is_ensemble(run) else run


def _member(run: Run, k: int) -> Run:
    """Open the run of a member, whose network reads where that of the ensemble does."""
    return replace(open_run(plan(run, k).folder), device=run.device)


def write_scores(run: Run, found: Scores) -> None:
    """Write the scores of an ensemble; it is complete from then on."""
    text = records.dump(asdict(found), indent=2) + "\n"
    atomically(run.path(SCORES), lambda path: path.write_text(text, encoding="utf-8"))


def scores(run: Run) -> Scores | None:
    """Read the scores of an ensemble.

    Args:
        run: The ensemble.

    Returns:
        The scores; None if not all members are trained.

    Raises:
        UserError: The file is damaged.
    """
    path = run.path(SCORES)
    if not path.exists():
        return None
    try:
        content = records.load(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged: not JSON ({error})") from None
    found: Scores = converted(content, Scores, str(path))
    return found
