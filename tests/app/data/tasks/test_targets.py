"""What is learnt of labelled sequences."""

from pathlib import Path

import polars as pl
import pytest
import torch

from undertow.app.data.tasks.targets import stratified, targets_of
from undertow.app.errors import UserError
from undertow.app.runs.config import DataConfig
from undertow.problems import UNSCORED

PATH = Path("a.csv")


def config(task, per="sequence"):
    return DataConfig("a.csv", task, 0.25, 0, sequence="id", label="way", per=per)


def test_every_class_keeps_its_share():
    y = torch.tensor([0] * 20 + [1] * 10 + [2] * 2 + [3])
    train, validation = stratified(y, 0.2, seed=3)
    assert sorted(torch.cat([train, validation]).tolist()) == list(range(33))
    assert y[validation].bincount(minlength=4).tolist() == [4, 2, 1, 0]


def test_numbers_are_split_by_the_seed_alone():
    targets = targets_of(pl.Series(range(20)), [1] * 20, PATH, config("regress"))
    train, validation = targets.split(0.25, seed=1)
    assert sorted(torch.cat([train, validation]).tolist()) == list(range(20))
    assert len(validation) == 5
    assert [part.tolist() for part in targets.split(0.25, 1)] == [train.tolist(), validation.tolist()]
    assert targets.split(0.25, 2)[1].tolist() != validation.tolist()


def test_units_and_baseline_are_those_of_the_training_part():
    targets = targets_of(pl.Series([1.0, 3.0, 10.0, 100.0]), [1] * 4, PATH, config("regress"))
    train, validation = torch.tensor([0, 1]), torch.tensor([2, 3])
    mean, spread = targets.units(train)
    assert (mean.tolist(), spread.tolist()) == ([2.0], [1.0])
    assert targets.objective(train).scale == 1.0
    (baseline,) = targets.baselines(train, validation)
    assert baseline.name == "training mean"
    assert baseline.value == pytest.approx(((8**2 + 98**2) / 2) ** 0.5)


def test_a_constant_training_part_has_a_spread_of_one():
    targets = targets_of(pl.Series([5.0, 5.0, 6.0]), [1] * 3, PATH, config("regress"))
    assert targets.units(torch.tensor([0, 1]))[1].tolist() == [1.0]


def test_commonest_class_is_that_of_the_training_part():
    targets = targets_of(pl.Series(["b", "b", "a", "a", "a", "b"]), [1] * 6, PATH, config("classify"))
    (baseline,) = targets.baselines(torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5]))
    assert (baseline.name, baseline.value) == ("commonest class", pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [(["a", "a"], "classify", "one class only: 'a'"), ([2.5, 2.5], "regress", "one number only: 2.5")],
)
def test_one_label_for_all_is_refused(labels, task, said):
    with pytest.raises(UserError, match=said):
        targets_of(pl.Series(labels), [1, 1], PATH, config(task))


def test_a_class_that_was_not_learnt_is_refused():
    with pytest.raises(UserError, match=r"expected a class that the model learnt .*got 'c'"):
        targets_of(pl.Series(["a", "c"]), [1, 1], PATH, config("classify"), ["a", "b"])


def test_classes_at_every_step_are_padded_with_no_target():
    labels = pl.Series(["a", None, "b", "b", "a"])
    targets = targets_of(labels, [3, 2], PATH, config("classify", "step"))
    assert targets.pad(torch.tensor([0, 1])).T.tolist() == [[0, UNSCORED, 1], [1, 0, UNSCORED]]
    assert targets.known(torch.tensor([0])).tolist() == [0, 1]
    assert targets.describe("way") == ["2 classes: a, b", "1 row without a label: not scored"]


def test_classes_that_cannot_validate_are_named():
    targets = targets_of(pl.Series(["a", "b", "a", "c"]), [1] * 4, PATH, config("classify"))
    assert targets.describe("way")[1:] == ["classes with one sequence, which does not validate: b, c"]


def test_numbers_at_every_step_are_padded_with_no_target():
    labels = pl.Series([1.0, None, 3.0, 5.0])
    targets = targets_of(labels, [3, 1], PATH, config("regress", "step"))
    padded = targets.pad(torch.tensor([0, 1]))
    assert padded.shape == (3, 2, 1)
    assert padded[..., 0].nan_to_num(-1).T.tolist() == [[1, -1, 3], [5, -1, -1]]
    assert targets.units(torch.tensor([0])) == (torch.tensor([2.0]), torch.tensor([1.0]))
    (baseline,) = targets.baselines(torch.tensor([0]), torch.tensor([1]))
    assert baseline.value == pytest.approx(3.0)


def test_whole_sequences_validate_where_each_step_has_a_class():
    labels = pl.Series(["a", "b"] * 20)
    train, validation = targets_of(labels, [4] * 10, PATH, config("classify", "step")).split(0.3, 0)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(10))
    assert len(validation) == 3


def test_balanced_classes_weigh_alike_in_the_loss():
    targets = targets_of(pl.Series(["a", "a", "a", "b"]), [1] * 4, PATH, config("classify"))
    train = torch.arange(4)
    assert targets.objective(train).weights == ()
    objective = targets.objective(train, balanced=True)
    assert objective.weights == pytest.approx((4 / 6, 2.0))
    output = torch.randn(4, 2)
    nats = -output.log_softmax(-1)[torch.arange(4), targets.pad(torch.tensor([0, 1, 2, 3]))]
    by_class = (nats[:3].mean() + nats[3]) / 2
    torch.testing.assert_close(objective.loss(output, targets.pad(torch.tensor([0, 1, 2, 3]))), by_class)
