"""What the kernels refuse: an exception names the argument, and nothing is read or written out of place."""

import numpy as np
import pytest

from layer_case import TRAINED
from layer_case import arguments as in_groups
from undertow.kernels import native

T, N, C, H = 4, 3, 6, 5
SHAPES = {
    "x": (T, N, C),
    "h_0": (N, H),
    "c_0": (N, H),
    "weight_ih": (4 * H, C),
    "weight_hh": (4 * H, H),
    "bias_ih": (4 * H,),
    "bias_hh": (4 * H,),
    "y": (T, N, H),
    "h_n": (N, H),
    "c_n": (N, H),
    "gates": (T, N, 4, H),
    "c": (T + 1, N, H),
}
TAKEN = ["x", "h_0", "c_0", "weight_ih", "weight_hh", "y", "gates", "c"]
GIVEN = {"dy": (T, N, H), "dh_n": (N, H), "dc_n": (N, H)}
ASKED = {"dx": (T, N, C), "dh_0": (N, H), "dc_0": (N, H)}
ASKED |= {"dweight_ih": (4 * H, C), "dweight_hh": (4 * H, H), "dbias": (4 * H,)}
ASKED |= {"dgates": (T, N, 4, H), "dh": (T, N, H), "dc": (T, N, H)}
MARKS = {"mask": (T, N), "reset": (T, N)}  # of booleans, all others of float32
NORMS = {"gain_x": (4 * H,), "gain_h": (4 * H,), "gain_c": (H,), "bias_c": (H,)}
ADDED = MARKS | {"reset_h": (N, H), "reset_c": (N, H), "recurrent": (N, H), "peepholes": (3, H)} | NORMS
ADDED |= {"zoneout_h": (T, N, H), "zoneout_c": (T, N, H)}
NORMED = {"normed": (T, N, 2, 4, H), "scale": (T, N, 2)}
SUMS = {f"d{name}": ADDED[name] for name in TRAINED}
ARRAYS = {"forward": SHAPES, "backward": {name: SHAPES[name] for name in TAKEN} | GIVEN | ASKED}
OUTPUTS = {"forward": ["y", "h_n", "c_n", "gates", "c"], "backward": list(ASKED)}
ARRAYS |= {f"varied_{name}": arrays | ADDED | NORMED for name, arrays in ARRAYS.items()}
ARRAYS["varied_backward"] |= SUMS
OUTPUTS |= {
    "varied_forward": [*OUTPUTS["forward"], *NORMED],
    "varied_backward": [*OUTPUTS["backward"], *SUMS],
}
STATES = {f"{d}{name}" for d in ("", "d") for name in ("h_0", "c_0", "h_n", "c_n")}
STRIDED = {"x", "y", "dy", "dx", "zoneout_h", "zoneout_c"}

ARGUMENTS = [(function, name) for function, arrays in ARRAYS.items() for name in arrays]
every_argument = pytest.mark.parametrize(("function", "name"), ARGUMENTS)
both = pytest.mark.parametrize("function", ["forward", "backward"])
varied = pytest.mark.parametrize("function", ["varied_forward", "varied_backward"])


def zeros(name, shape):
    return np.zeros(shape, bool if name in MARKS else np.float32)


def arguments(function, **changed):
    """A valid call of the LSTM by name, but for what is changed; with all that may be added, where it may."""
    given = {name: zeros(name, shape) for name, shape in ARRAYS[function].items()}
    return given | {"cell": "lstm"} | ({"coupled": True} if "varied" in function else {}) | changed


def call(function, given):
    """native.forward or native.backward as the names in ``given`` say."""
    rest = {name: given[name] for name in ("reverse", "threads") if name in given}
    function = function.removeprefix("varied_")
    getattr(native, function)(*in_groups(function, given["cell"], given, **rest))


def refused(function, error, match, **changed):
    """The call raises ``error`` and leaves all its outputs alone."""
    given = arguments(function, **changed)
    with pytest.raises(error, match=match):
        call(function, given)
    for name in OUTPUTS[function]:
        assert given[name] is None or not np.any(given[name])


def named(name):
    return rf"^{name}: expected "


@pytest.mark.parametrize("function", ARRAYS)
def test_the_call_that_the_others_spoil_is_valid(function):
    call(function, arguments(function))


@every_argument
@pytest.mark.parametrize("dtype", ["float64", "int32", "float16", "complex64", "bool or uint8"])
def test_dtype(function, name, dtype):
    if dtype == "bool or uint8":  # whichever is wrong
        dtype = "uint8" if name in MARKS else "bool"
    # a float64 x is at odds with the float32 of the next argument, which is then the one named
    match = named("[a-z_0]+" if name == "x" else name)
    refused(function, TypeError, match, **{name: np.zeros(ARRAYS[function][name], dtype)})


@every_argument
def test_byte_order(function, name):
    refused(function, TypeError, named(name), **{name: np.zeros(ARRAYS[function][name], ">f4")})


@every_argument
def test_shape(function, name):
    shape = ARRAYS[function][name]
    # T, N, C and H are read off x and weight_hh: where those are wrong another argument does not fit them
    match = named("[a-z_0]+" if name in {"x", "weight_hh"} else name)
    for axis, length in enumerate(shape):
        for wrong in (length - 1, length + 1, 0):
            if (axis, wrong) == (0, 0):
                continue
            changed = zeros(name, (*shape[:axis], wrong, *shape[axis + 1 :]))
            refused(function, ValueError, match, **{name: changed})


@every_argument
def test_number_of_dimensions(function, name):
    shape = ARRAYS[function][name]
    for wrong in [(1, *shape), shape[1:], (int(np.prod(shape)),), ()]:
        if wrong != shape and not (name in STATES and wrong == (1, *shape)):  # as a module has them
            refused(function, ValueError, named(name), **{name: zeros(name, wrong)})


def other_layouts(name, shape):
    """Arrays of this shape that are not contiguous: spread, backwards and transposed."""
    spread = zeros(name, (*shape[:-1], 2 * shape[-1]))[..., ::2]
    turned = [zeros(name, shape[::-1]).transpose()] if len(shape) > 1 else []
    return [spread, zeros(name, shape)[..., ::-1], *turned]


@every_argument
def test_layout(function, name):
    for changed in other_layouts(name, ARRAYS[function][name]):
        expected = "stride 1 in the last dimension" if name in STRIDED else "a contiguous array"
        refused(function, ValueError, named(name) + expected, **{name: changed})


@pytest.mark.parametrize(("function", "name"), [pair for pair in ARGUMENTS if pair[1] not in MARKS])
def test_misaligned_memory(function, name):
    """An element that lies across its natural boundary is undefined behaviour in C++."""
    shape = ARRAYS[function][name]
    memory = np.zeros(int(np.prod(shape)) * 4 + 1, np.uint8)[1:]
    refused(function, (ValueError, TypeError), named(name), **{name: memory.view(np.float32).reshape(shape)})


@pytest.mark.parametrize(("function", "name"), [(f, name) for f, names in OUTPUTS.items() for name in names])
def test_read_only_output(function, name):
    locked = np.zeros(ARRAYS[function][name], np.float32)
    locked.flags.writeable = False
    refused(function, (TypeError, ValueError), named(name), **{name: locked})


@every_argument
@pytest.mark.parametrize("wrong", [[[[0.0]]], 1.0, "x", object()], ids=["list", "float", "str", "object"])
def test_not_an_array(function, name, wrong):
    given = arguments(function, **{name: wrong})
    with pytest.raises(TypeError, match=named(name)):
        call(function, given)


OPTIONAL = ["h_0", "h_n", "bias_ih", "bias_hh", "c_0", "c_n", "dy", "dh_n", "dc_n", *ASKED, *ADDED, *SUMS]


@pytest.mark.parametrize(("function", "name"), [pair for pair in ARGUMENTS if pair[1] not in OPTIONAL])
def test_none_for_an_array_that_is_needed(function, name):
    given = arguments(function, **{name: None})
    with pytest.raises(TypeError, match=named(name)):
        call(function, given)


# T = 4, N = 3: packed arguments as R = 8 rows
SIZES = {
    "increasing": [2, 3, 2, 1],
    "negative": [3, 3, 3, -1],
    "too large": [4, 2, 1, 1],
    "huge": [2**62, 3, 2, 1],
}
PACKED = np.array([3, 2, 2, 1])
PER_STEP = {"x": C, "y": H, "dy": H, "dx": C}


def packed(function, **changed):
    """A valid call of the LSTM with packed sequences, but for what is changed."""
    names = ARRAYS[function].keys()
    given = {name: np.zeros((8, size), np.float32) for name, size in PER_STEP.items() if name in names}
    given |= {"gates": np.zeros((8, 4, H), np.float32), "c": np.zeros((3 + 8, H), np.float32)}
    if function == "backward":
        given |= {"dgates": np.zeros((8, 4, H), np.float32)}
        given |= {name: np.zeros((8, H), np.float32) for name in ("dh", "dc")}
    return arguments(function, **(given | {"batch_sizes": PACKED, "order": np.array([2, 0, 1])} | changed))


def packed_refused(function, error, match, **changed):
    with pytest.raises(error, match=match):
        call(function, packed(function, **changed))


@both
def test_the_packed_call_that_the_others_spoil_is_valid(function):
    call(function, packed(function))
    call(function, packed(function, order=None))


@both
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_batch_sizes_values(function, sizes):
    # N is read off them: where that is wrong another argument does not fit them
    packed_refused(function, ValueError, named("[a-z_]+"), batch_sizes=np.array(sizes))


@both
def test_packed_shapes(function):
    for name in PER_STEP.keys() & ARRAYS[function].keys():
        for wrong in ((7, PER_STEP[name]), (9, PER_STEP[name]), (T, N, PER_STEP[name])):
            match = named("[a-z]+" if name == "x" else name)
            packed_refused(function, ValueError, match, **{name: np.zeros(wrong, np.float32)})
    for name in ("gates", "c"):
        packed_refused(function, ValueError, named(name), **{name: np.zeros(SHAPES[name], np.float32)})


@both
def test_order(function):
    for wrong in ([0, 1, 1], [0, 1, 3], [-1, 0, 1], [2**62, 0, 1], [0, 1], [0, 1, 2, 3]):
        packed_refused(function, ValueError, named("order"), order=np.array(wrong))
    refused(function, ValueError, named("order") + "None without batch_sizes", order=np.array([0, 1, 2]))
    packed_refused(function, ValueError, named("lengths") + "None with", lengths=np.array([1, 2, 3]))


@both
def test_lengths(function):
    for wrong in ([4, 5, 0], [-1, 4, 4], [2**62, 1, 1], [4, 4], [4, 4, 4, 4]):
        refused(function, ValueError, named("lengths"), lengths=np.array(wrong))


@both
def test_form_of_what_is_said_of_lengths(function):
    good = np.array([3, 2, 1, 1])
    for wrong in (good[None], np.array([3, 0, 2, 0, 1, 0, 1, 0])[::2]):
        packed_refused(function, ValueError, named("batch_sizes"), batch_sizes=wrong)
    for dtype in (np.int32, np.uint64, np.float32, bool):
        packed_refused(
            function, TypeError, named("batch_sizes") + "dtype int64", batch_sizes=good.astype(dtype)
        )
        packed_refused(function, TypeError, named("order") + "dtype int64", order=np.arange(3).astype(dtype))
        refused(function, TypeError, named("lengths") + "dtype int64", lengths=np.arange(3).astype(dtype))


@both
def test_cell(function):
    for wrong in ("gru", "LSTM", ""):
        refused(function, ValueError, named("cell"), cell=wrong)
    for wrong in (None, 1, b"lstm"):
        refused(function, TypeError, named("cell"), cell=wrong)


@both
def test_threads(function):
    for wrong in (0, -1):
        refused(function, ValueError, named("threads"), threads=wrong)
    for wrong in (None, 1.5, 2**40):
        refused(function, TypeError, None, threads=wrong)


def without(function, *names):
    """A valid call but for these arrays of the tape, which are left out of it."""
    return {name: a for name, a in arguments(function).items() if name not in names}


@both
def test_tape_in_part(function):
    for name in ("gates", "c"):
        with pytest.raises(ValueError, match=r"^tape: expected 2 arrays, got 1"):
            call(function, without(function, name))
        refused(function, TypeError, named(name), **{name: None})


@pytest.mark.parametrize(("function", "needed"), [("backward", 2), ("varied_backward", 4)])
def test_backward_without_a_tape(function, needed):
    with pytest.raises(TypeError, match=f"^tape: expected {needed} arrays, got None"):
        call(function, without(function, "gates", "c", *NORMED))


@varied
def test_the_tape_of_norms(function):
    for name in NORMS:
        refused(
            function, ValueError, r"^gain_x, gain_h, gain_c, bias_c: expected all or none", **{name: None}
        )
    for name in NORMED:
        with pytest.raises(ValueError, match=r"^tape: expected 4 arrays, got 3"):
            call(function, without(function, name))
    refused(function, ValueError, r"^tape: expected 2 arrays, got 4", **dict.fromkeys(NORMS))
    with pytest.raises(ValueError, match=r"^tape: expected 4 arrays, got 2"):
        call(function, without(function, *NORMED))


# the position of each group of arrays, and how many it has
GROUPS = {
    "forward": {"states": (2, 2), "weights": (3, 4), "outputs": (4, 3), "tape": (5, 2), "ragged": (6, 3)},
    "backward": {"states": (2, 2), "weights": (3, 2), "tape": (5, 2), "douts": (6, 3), "dins": (7, 6),
                 "dsteps": (8, 3), "ragged": (9, 3)},
}  # fmt: skip
NONE_FOR_ALL = {"tape", "ragged", "dsteps"}
every_group = pytest.mark.parametrize(
    ("function", "group"), [(function, group) for function, groups in GROUPS.items() for group in groups]
)


def with_group(function, group, change):
    """A valid call's arguments in order, with one group of arrays changed."""
    taken = [*in_groups(function, "lstm", arguments(function))]
    position = GROUPS[function][group][0]
    taken[position] = change(taken[position])
    return taken


@every_group
def test_a_group_may_be_a_tuple_or_a_list(function, group):
    for kind in (tuple, list):
        getattr(native, function)(*with_group(function, group, kind))


@every_group
def test_number_of_arrays_in_a_group(function, group):
    count = GROUPS[function][group][1]
    least = "at least " if group == "weights" else ""
    message = f"^{group}: expected {least}{count} arrays, got "
    with pytest.raises(ValueError, match=message + str(count - 1)):
        getattr(native, function)(*with_group(function, group, lambda given: given[: count - 1]))
    if group != "weights":
        with pytest.raises(ValueError, match=message + str(count + 1)):
            getattr(native, function)(*with_group(function, group, lambda given: (*given, None)))


@every_group
def test_not_a_group(function, group):
    for wrong in (1.0, "x", {}, np.zeros(3), None):
        if wrong is None and group in NONE_FOR_ALL:
            continue
        with pytest.raises(TypeError, match=f"^{group}: expected "):
            getattr(native, function)(*with_group(function, group, lambda _, wrong=wrong: wrong))


@both
def test_what_follows_the_biases(function):
    weights = np.zeros((H, H), np.float32)
    getattr(native, function)(*with_group(function, "weights", lambda given: (*given, None)))
    with pytest.raises(ValueError, match=r"^weights: expected None after the biases"):
        getattr(native, function)(*with_group(function, "weights", lambda given: (*given, weights)))


@pytest.mark.parametrize(("function", "name"), [("forward", "options"), ("backward", "options"),
                                                ("backward", "doptions")])  # fmt: skip
def test_an_object_without_the_attributes_of_options(function, name):
    taken = [*in_groups(function, "lstm", arguments(function))]
    taken[{"forward": 7, "backward": 10}[function] + (name == "doptions")] = object()
    with pytest.raises(
        TypeError, match=f"^{name}: expected an object with the attribute [a-z_]+, got object"
    ):
        getattr(native, function)(*taken)


@varied
def test_coupled_is_true_or_false(function):
    for wrong in (1, "yes", np.zeros(1)):
        refused(function, TypeError, named("coupled"), coupled=wrong)


@varied
def test_bfloat16_has_no_options(function):
    torch = pytest.importorskip("torch")
    x = torch.zeros(T, N, C, dtype=torch.bfloat16)
    refused(function, TypeError, named("x") + "dtype float32 or float64 with options", x=x)


@varied
def test_the_plain_rnn_has_no_options(function):
    given = arguments(function) | rnn(function.removeprefix("varied_")) | dict.fromkeys(NORMS)
    given = {name: a for name, a in given.items() if name not in {"gates", "c", *NORMED}}
    with pytest.raises(ValueError, match=named("cell") + "'lstm' with options"):
        call(function, given)


def test_gradients_of_what_was_not_added():
    for name in NORMS:
        refused(
            "varied_backward", ValueError, r"^dgain_x, .*: expected all or none, and", **{f"d{name}": None}
        )
    refused("varied_backward", ValueError, named("dpeepholes") + "None without", peepholes=None)
    refused("varied_backward", ValueError, named("dbias"), **dict.fromkeys(f"d{name}" for name in NORMS))


def test_lstm_without_its_cell():
    refused("forward", ValueError, named("c_n"), c_n=None)


ONLY_LSTM = ("c_0", "c_n", "dc_n", "dc_0", "dc")


def rnn(function, **changed):
    """A valid call of the plain RNN, but for what is changed."""
    given = {name: a[:H] if name.startswith(("weight", "bias", "dweight", "dbias")) else a
             for name, a in arguments(function).items() if name not in {"gates", "c"}}  # fmt: skip
    given |= {"dgates": np.zeros((T, N, 1, H), np.float32)} if function == "backward" else {}
    return given | {name: None for name in ONLY_LSTM if name in given} | {"cell": "rnn"} | changed


@both
def test_plain_rnn_with_what_only_the_lstm_has(function):
    call(function, rnn(function))
    for name in {*ONLY_LSTM} & ARRAYS[function].keys():
        changed = rnn(function, **{name: zeros(name, ARRAYS[function][name])})
        with pytest.raises(ValueError, match=named(name)):
            call(function, changed)
    tape = {name: zeros(name, SHAPES[name]) for name in ("gates", "c")}
    with pytest.raises(ValueError, match=named("tape") + "None for the RNN, got 2 arrays"):
        call(function, rnn(function, **tape))


def test_hidden_size_of_nothing():
    refused("forward", ValueError, named("weight_hh"), weight_hh=np.zeros((0, 0), np.float32))


def test_strides_of_zero_and_below_are_read_right():
    """dy as autograd gives it for a sum: one number seen as all of them; and an x that runs backwards."""
    random = np.random.default_rng(0)
    x = random.standard_normal((T, N, C)).astype(np.float32)
    given = arguments(
        "backward", x=x, weight_ih=np.ones((4 * H, C), np.float32), gates=np.full((T, N, 4, H), 0.5, "f4")
    )
    found = []
    for dy, x_view in [
        (np.ones((T, N, H), np.float32), x),
        (np.broadcast_to(np.ones((1, 1, H), np.float32), (T, N, H)), x[::-1, ::-1].copy()[::-1, ::-1]),
    ]:
        call("backward", given | {"dy": dy, "x": x_view})
        found.append({name: given[name].copy() for name in ASKED})
    assert np.any(found[0]["dweight_ih"])
    for name in ASKED:
        assert np.array_equal(found[0][name], found[1][name])


def test_a_single_number_expanded_to_dy_is_refused_not_misread():
    """Stride 0 in the last dimension is not stride 1."""
    one = np.broadcast_to(np.float32(1), (T, N, H))
    refused("backward", ValueError, named("dy") + "stride 1", dy=one)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_functions(name):
    function, ok = getattr(native, name), np.zeros(4, np.float32)
    for x, y, error in [
        (ok, np.zeros(3, np.float32), ValueError),
        (np.zeros((2, 2), np.float32), ok, ValueError),
        (np.zeros(8, np.float32)[::2], ok, ValueError),
        (ok, np.zeros(4), TypeError),
        (np.zeros(4, np.int32), ok, TypeError),
        (ok, [0.0] * 4, TypeError),
    ]:
        with pytest.raises(error):
            function(x, y)
