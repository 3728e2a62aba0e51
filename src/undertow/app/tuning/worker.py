"""A worker of a study: trial after trial until there are enough; what dead workers left is tried again."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from undertow.app.errors import UserError
from undertow.app.training.trainer import HookMaker
from undertow.app.tuning import storage, trial
from undertow.app.tuning.best import keep_best
from undertow.app.tuning.study import Plan, counting, of_state

POLL = 1.0  # seconds between looks at the trials of other workers
HOPELESS = 3  # trials that fail before any succeeds end the command

Tell = Callable[[FrozenTrial], None]


class Worker:
    """Does the trials of a study that nobody else does.

    Args:
        study: The study.
        plan: What its trials have in common.
        hooks: Told of each training.
        tell: Called with each trial that this worker ended.
        wait: Called once when nothing is left but trials of other workers, with their number.
    """

    def __init__(
        self,
        study: optuna.Study,
        plan: Plan,
        hooks: Sequence[HookMaker],
        tell: Tell,
        wait: Callable[[int], None],
    ) -> None:
        self.study, self.plan, self.hooks = study, plan, hooks
        self.tell, self.wait = tell, wait
        self.code = 0

    def work(self) -> int:
        """Do trials until the study has enough, and all of them have ended.

        Where the storage keeps signs of life, the last worker waits for the trials of the others, so that it
        can try again what a dead one left.

        Returns:
            The exit code: 0, or 128 and the number of the signal that came.

        Raises:
            UserError: The first trials failed, all of them.
        """
        waiting = False
        while not self.code:
            retry_the_dead(self.study)
            if len(counting(self.study)) < self.plan.trials:
                self._next()
                continue
            running = len(of_state(self.study, TrialState.RUNNING))
            if not running or not storage.tells_the_dead(self.study._storage):
                break
            if not waiting:
                self.wait(running)
            waiting = True
            time.sleep(POLL)
        return self.code

    def _next(self) -> None:
        caught = UserError, trial.Interrupted, trial.Surplus
        self.study.optimize(self._train, n_trials=1, catch=caught, callbacks=[self._ended])
        failed = [each for each in of_state(self.study, TrialState.FAIL) if "error" in each.user_attrs]
        if len(failed) >= min(HOPELESS, self.plan.trials) == len(counting(self.study)):
            raise UserError(f"all {len(failed)} trials failed: {failed[0].user_attrs['error']}")

    def _train(self, drawn: Trial) -> float:
        try:
            return trial.train(drawn, self.plan, self.hooks)
        except trial.Interrupted as interrupted:
            self.code = interrupted.code
            raise

    def _ended(self, study: optuna.Study, ended: FrozenTrial) -> None:
        if ended.state == TrialState.FAIL and self.code:
            study.enqueue_trial(ended.params)
        elif ended.state != TrialState.FAIL or "error" in ended.user_attrs:
            self.tell(ended)
            keep_best(study, self.plan.folder)


def retry_the_dead(study: optuna.Study) -> None:
    """Mark the trials of dead workers as failed, and have each tried again.

    Args:
        study: The study. Its storage finds those without a sign of life; those whose worker died before the
            first one have named no worker.
    """
    with storage.unsettled():
        optuna.storages.fail_stale_trials(study)
    long_ago = datetime.now() - timedelta(seconds=storage.GRACE)
    for each in of_state(study, TrialState.RUNNING):
        begun = each.datetime_start
        if "worker" not in each.user_attrs and begun is not None and begun < long_ago:
            try:
                study.tell(each.number, state=TrialState.FAIL)
            except ValueError:  # another worker was faster
                continue
            study.enqueue_trial(each.params)
