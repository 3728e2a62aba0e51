"""``equations.variants`` against finite differences, and against what each option means.

float64, to a relative error of 1e-8 against finite differences and 1e-12 elsewhere.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Case, all_sizes, any_lengths, both_cells, both_ways, numeric_gradient, relative_error
from sampling import examples
from undertow import equations as eq
from undertow.equations import variants as va
from varied_cases import OPTIONS, STEPWISE, Varied, each_option, options_of

SIZE = 6, 4, 3, 5  # T, N, C, H


# ------------------------------------------------------------------------------------ the truth


@both_cells
@all_sizes
@any_lengths
@both_ways
def test_nothing_added_is_the_plain_equations_bit_for_bit(kind, size, how, reverse):
    plain, varied = Case(kind, size, how, reverse), Varied(kind, size, [], how, reverse)
    (y, tape), (y_varied, tape_varied) = plain.forward(), varied.forward()
    np.testing.assert_array_equal(y_varied, y)
    for name in ("gates", "h", "c") if kind == "lstm" else ("h",):
        np.testing.assert_array_equal(getattr(tape_varied, name), getattr(tape, name), err_msg=name)
    expected, actual = plain.backward(), varied.backward()
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(actual, name), value, err_msg=name)


def check_finite_differences(case, rng, at_most):
    gradients = case.backward()
    step = (
        5e-5 if "gain_x" in case.given else 1e-2
    )  # LN turns within √ε = 3e-3 where its argument is near zero
    for name, array in case.given.items():

        def error(changed, name=name):
            return case.error(**{name: changed})

        entries, expected = numeric_gradient(error, array, rng, at_most, step)
        actual = getattr(gradients, f"d{name}")
        assert actual.shape == array.shape
        scale = max(np.abs(actual).max(), 1.0)
        assert np.abs(actual.ravel()[entries] - expected).max(initial=0) < 1e-8 * scale, name


@each_option
@any_lengths
@both_ways
def test_gradients_agree_with_finite_differences(kind, options, how, reverse):
    check_finite_differences(Varied(kind, SIZE, options, how, reverse), np.random.default_rng(1), at_most=8)


@settings(max_examples=examples(40))
@given(data=st.data())
def test_any_combination_agrees_with_finite_differences(data):
    kind = data.draw(st.sampled_from(["lstm", "rnn"]))
    options = data.draw(st.lists(st.sampled_from(options_of(kind)), unique=True))
    size = tuple(data.draw(st.integers(1, most)) for most in (5, 3, 3, 4))
    how, reverse = data.draw(st.sampled_from(["full", "ragged", "zero"])), data.draw(st.booleans())
    case = Varied(kind, size, options, how, reverse, seed=data.draw(st.integers(0, 99)))
    check_finite_differences(case, np.random.default_rng(1), at_most=4)


@both_ways
@any_lengths
def test_gradients_of_every_step(how, reverse):
    """dh_t and dc_t, from what they mean: the gradient of the states from which the rest is run."""
    case = Varied("lstm", SIZE, OPTIONS, how, reverse)
    (T, N, _, _), gradients, (_, tape) = SIZE, case.backward(), case.forward()
    dy = eq.common.processing_order(case.dy, case.lengths, reverse)[0]
    v = va.variant.Running(tape.variant, *SIZE[:2], SIZE[3], tape.lengths, reverse)
    g, i = tape.gates[:, :, 2], tape.gates[:, :, 0]
    np.testing.assert_allclose(
        gradients.dgates[:, :, 2], v.live * gradients.dc[1:] * i * (1 - g**2), rtol=1e-12
    )
    ends = np.full(N, T) if case.lengths is None else case.lengths
    for n in range(N):
        for s in range(1, ends[n]):  # s steps are done: those before, or in reverse after, the rest
            begun = T - ends[n] if reverse else 0
            a, b = (0, ends[n] - s) if reverse else (s, ends[n])
            rest = case.part(n, a, b, (tape.h[begun + s, n], tape.c[begun + s, n]), last=True)
            rest.fixed["reset"] = case.fixed["reset"][a:b, n : n + 1]
            rest.given |= {k: case.given[k][n : n + 1] for k in ("reset_h", "reset_c")}
            if v.fresh[begun + s, n]:
                expected = dy[begun + s - 1, n]
            else:
                expected = dy[begun + s - 1, n] + rest.backward().dh_0[0]
            assert relative_error(gradients.dh[begun + s, n], expected) < 1e-11


# -------------------------------------------------------------------------- what the options mean


def pieces(case, n):
    """Sequence n cut at its resets: bounds of each piece in the order of running."""
    T = case.size[0]
    end = T if case.lengths is None else int(case.lengths[n])
    cuts = [0, *(t for t in range(1, end) if case.fixed["reset"][t, n]), end]
    found = list(pairwise(cuts))
    return found[::-1] if case.reverse else found


@both_cells
@any_lengths
@both_ways
@pytest.mark.parametrize("others", [False, True], ids=["alone", "with the others"])
def test_reset_gives_what_the_pieces_give_by_themselves(kind, how, reverse, others):
    case = Varied(kind, (9, 4, 3, 5), options_of(kind) if others else ["reset"], how, reverse)
    (y, tape), whole = case.forward(), case.backward()
    first_resets = 0
    for n in range(4):
        start = [case.given[f"{s}_0"][n] for s in case.states]
        reset = [case.given[f"reset_{s}"][n] for s in case.states]
        bounds = pieces(case, n)
        from_reset = not reverse and case.fixed["reset"][0, n] and bounds[0][1] > 0
        first_resets += from_reset
        dstart = {f"d{s}_0": np.zeros(5) for s in case.states}
        dreset = {f"dreset_{s}": np.zeros(5) for s in case.states}
        for k, (a, b) in enumerate(bounds):
            begins = k > 0 or from_reset
            piece = case.part(n, a, b, reset if begins else start, last=k == len(bounds) - 1)
            y_piece, tape_piece = piece.forward()
            np.testing.assert_allclose(y[a:b, n], y_piece[:, 0], rtol=1e-12)
            found = piece.backward()
            np.testing.assert_allclose(whole.dx[a:b, n], found.dx[:, 0], rtol=0, atol=1e-12)
            for s in case.states:
                into, name = (dreset, f"dreset_{s}") if begins else (dstart, f"d{s}_0")
                into[name] += getattr(found, f"d{s}_0")[0]
        for s in case.states:
            np.testing.assert_allclose(getattr(tape, s)[-1, n], getattr(tape_piece, s)[-1, 0], rtol=1e-12)
        for name, expected in (dstart | dreset).items():
            np.testing.assert_allclose(getattr(whole, name)[n], expected, rtol=0, atol=1e-12, err_msg=name)
    assert first_resets or reverse


@each_option
@any_lengths
@both_ways
def test_a_masked_step_is_as_if_it_were_not_there(kind, options, how, reverse):
    case = Varied(kind, (9, 4, 3, 5), sorted({*options, "mask"} - {"reset"}), how, reverse)
    mask = case.fixed["mask"]
    case.dy[~mask] = 0  # an error at a masked step is one of the state carried over it
    (y, tape), whole = case.forward(), case.backward()
    dweight_hh = np.zeros_like(whole.dweight_hh)
    for n in range(4):
        end = 9 if case.lengths is None else case.lengths[n]
        kept = np.flatnonzero(mask[:end, n])
        short = case.part(n, 0, 9, [case.given[f"{s}_0"][n] for s in case.states], last=True)
        short.given["x"], short.dy = short.given["x"][kept], short.dy[kept]
        short.fixed = {k: v[kept] if k in STEPWISE else v for k, v in short.fixed.items() if k != "mask"}
        (y_short, tape_short), found = short.forward(), short.backward()
        np.testing.assert_allclose(y[kept, n], y_short[:, 0], rtol=1e-12)
        np.testing.assert_allclose(whole.dx[kept, n], found.dx[:, 0], rtol=0, atol=1e-12)
        for s in case.states:
            np.testing.assert_allclose(getattr(tape, s)[-1, n], getattr(tape_short, s)[-1, 0], rtol=1e-12)
            start = getattr(whole, f"d{s}_0")[n], getattr(found, f"d{s}_0")[0]
            np.testing.assert_allclose(*start, rtol=0, atol=1e-12)
        dweight_hh += found.dweight_hh
    assert relative_error(whole.dweight_hh, dweight_hh) < 1e-12
    assert not whole.dx[~mask].any()


def test_a_masked_step_gives_the_state_that_it_carries():
    case = Varied("lstm", SIZE, ["mask", "reset"])
    (y, tape), fresh, passed = case.forward(), case.fixed["reset"], ~case.fixed["mask"]
    assert (passed & fresh).any()
    assert (passed & ~fresh).any()
    before = np.where(fresh[..., None], case.given["reset_h"], tape.h[:-1])
    np.testing.assert_array_equal(y[passed], before[passed])
    assert not tape.gates[passed].any()


@each_option
@both_ways
def test_what_a_masked_step_holds_does_not_matter(kind, options, reverse):
    case = Varied(kind, SIZE, sorted({*options, "mask"}), "ragged", reverse)
    (y, _), before = case.forward(), case.backward()
    case.given["x"][~case.fixed["mask"]] = np.nan
    (y_after, _), after = case.forward(), case.backward()
    np.testing.assert_array_equal(y_after, y)
    for name, value in vars(before).items():
        np.testing.assert_array_equal(getattr(after, name), value, err_msg=name)


def test_zoneout_of_one_keeps_the_state():
    case = Varied("lstm", SIZE, [])
    case.fixed = {"zoneout_h": 1.0, "zoneout_c": 1.0}
    y, tape = case.forward()
    assert np.all(y == case.given["h_0"])
    assert np.all(tape.c == case.given["c_0"])


def test_coupled_gates_share_the_cell():
    case = Varied("lstm", SIZE, ["coupled"])
    i, f, _, _ = np.moveaxis(case.forward()[1].gates, 2, 0)
    np.testing.assert_array_equal(f, 1 - i)
    rows = eq.gate(case.backward().dweight_ih, "f", 5)
    assert not rows.any()


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": np.ones((6, 3), bool)}, r"mask: expected shape \[6, 4\], got \[6, 3\]"),
        ({"reset": np.ones((6, 4))}, r"reset: expected booleans, got float64"),
        ({"reset_h": np.ones(5)}, r"reset_h: expected shape \[4, 5\], got \[5\]"),
        ({"recurrent": np.ones((4, 4))}, r"recurrent: expected shape \[4, 5\], got \[4, 4\]"),
        ({"zoneout_c": np.ones((4, 4))}, r"zoneout_c: expected shape \[6, 4, 5\], got \[4, 4\]"),
        ({"peepholes": np.ones((4, 5))}, r"peepholes: expected shape \[3, 5\], got \[4, 5\]"),
        ({"gain_x": np.ones(20)}, r"gain_h: expected with gain_x, gain_h, gain_c, bias_c"),
    ],
)
def test_a_field_that_does_not_fit_is_named(changed, message):
    case = Varied("lstm", SIZE, [])
    case.fixed = changed
    with pytest.raises(ValueError, match=message):
        case.forward()


def test_what_the_plain_rnn_lacks_is_named():
    case = Varied("rnn", SIZE, [])
    case.fixed = {"coupled": True}
    with pytest.raises(ValueError, match="coupled: expected none for the plain RNN, which has only mask, "):
        case.forward()
