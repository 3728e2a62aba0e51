"""A training brought to its end, with what belongs to a run beside its network."""

from undertow.app import working
from undertow.app.loop import Hook
from undertow.app.training import intervals, logger
from undertow.app.training.trainer import Trainer


def fit(trainer: Trainer, *hooks: Hook) -> bool:
    """Train to the end or to a signal, then draw the learning curve and add the intervals.

    Args:
        trainer: The training, at its start or resumed.
        *hooks: Told of every step and evaluation.

    Returns:
        Whether the training is finished.
    """
    run, progress = trainer.run, trainer.progress
    done = trainer.fit(*hooks, *logger.hooks(trainer))
    if not trainer.team.leads:
        return done
    if progress.rows:
        with working.busy("drawing the learning curve"):
            from undertow.app.training import curve

            curve.draw(run, progress.rows)
    if progress.at.best and run.training.interval:
        with working.busy("fitting the intervals"):
            intervals.add(run, trainer.task, trainer.team.alive)
    return done
