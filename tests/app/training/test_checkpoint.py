"""What a checkpoint says of where training stood is checked before training goes on."""

import pytest
import torch

from undertow.app.errors import UserError
from undertow.app.training.checkpoint import check_position, check_random

STEPS = 10  # an epoch
ROWS = [{"step": step} for step in (5, 10, 15, 20)]
STATE = {"step": 17, "epoch": 1, "batch": 7, "best": {"step": 10}, "stale": 1}


def check(rows=ROWS, **changes):
    check_position(STATE | changes, rows, STEPS, "r/last.safetensors")


def test_entries_that_fit_are_taken():
    check()  # the row at step 20 was written after it
    check(step=0, epoch=0, batch=0, best={}, stale=0)
    check(best={"step": 15}, stale=0)
    check(best={"step": 5}, stale=2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"step": 18}, "step"),
        ({"step": 16}, "step"),
        ({"epoch": 2}, "step"),
        ({"epoch": 0, "batch": 17}, "step"),
        ({"step": 20, "batch": 10, "stale": 2}, "step"),
        ({"best": {}}, "best"),
        ({"best": {"step": 11}}, "best"),
        ({"best": {"step": 20}}, "best"),
        ({"rows": []}, "best"),
        ({"stale": 0}, "stale"),
        ({"stale": 2}, "stale"),
        ({"rows": [], "best": {}, "stale": 1}, "stale"),
    ],
)
def test_the_entry_that_does_not_fit_is_named(changes, named):
    with pytest.raises(UserError, match=rf"^r/last\.safetensors: damaged: {named} and the other entries"):
        check(**changes)


def test_random_numbers_go_on_from_a_state_of_torch_alone():
    state = torch.get_rng_state()
    check_random({"random.cpu": state}, "r")
    for wrong in (state[:-1], state.to(torch.int64), torch.zeros_like(state)):
        with pytest.raises(UserError, match=r"^r: damaged: random\.cpu is no state"):
            check_random({"random.cpu": wrong}, "r")
