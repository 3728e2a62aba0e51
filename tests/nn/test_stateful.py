"""``stateful()``: pieces of a sequence give what the whole gives, and gradients stop where a piece begins."""

import copy

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import undertow
from modules import flat

T, N, C, H = 9, 4, 3, 5
KINDS = {"lstm": undertow.LSTM, "rnn": undertow.RNN}
SHAPES = [
    {},
    {"num_layers": 2, "batch_first": True, "learn_initial_state": True},
    {"hidden_size": [5, 2], "learn_initial_state": True},
    {"zoneout": 0.2, "num_layers": 2},
]
each_module = pytest.mark.parametrize(
    ("cell", "options"), [(cell, options) for cell in KINDS for options in SHAPES], ids=str
)


def make(cell="lstm", **options):
    """In evaluation, where zoneout is its mean; learnt states off zero."""
    torch.manual_seed(1)
    module = KINDS[cell](C, dtype=torch.float64, **{"hidden_size": H} | options).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p), alpha=0.3)
    return module


def inputs(module, *shape):
    x = torch.randn(*(shape or (T, N, C)), dtype=torch.float64)
    return x.transpose(0, 1).contiguous() if module.batch_first else x


def time(module):
    return 1 if module.batch_first else 0


def assert_same(actual, expected):
    for a, e in zip(flat(actual), flat(expected), strict=True):
        torch.testing.assert_close(a, e, atol=1e-12, rtol=0)


@each_module
def test_pieces_give_what_the_whole_gives(cell, options):
    module = make(cell, **options)
    x, carried = inputs(module), module.stateful()
    whole, end = module(x)
    found = [carried(piece) for piece in x.split([4, 1, 4], dim=time(module))]
    assert_same(torch.cat([y for y, _ in found], dim=time(module)), whole)
    assert_same(found[-1][1], end)
    assert_same(carried.state, end)


@each_module
def test_gradients_stop_where_a_piece_begins(cell, options):
    """They are those of detaching by hand."""
    module = make(cell, **options)
    pieces = inputs(module).split(3, dim=time(module))

    def gradients(call):
        module.zero_grad()
        xs, total = [piece.clone().requires_grad_() for piece in pieces], 0
        for x in xs:
            total = total + call(x)[0].square().sum()
        total.backward()
        return [*(x.grad for x in xs), *(p.grad for p in module.parameters())]

    state = None

    def by_hand(x):
        nonlocal state
        y, new = module(x, state)
        state = detached(new)
        return y, new

    def detached(s):
        return s.detach() if isinstance(s, torch.Tensor) else tuple(map(detached, s))

    assert_same(gradients(module.stateful()), gradients(by_hand))
    assert all(not s.requires_grad for s in flat(state))


@each_module
@pytest.mark.parametrize("which", [[0, 3], [-1, 0], torch.tensor([True, False, False, True])], ids=str)
def test_some_sequences_begin_anew(cell, options, which):
    """From the module's initial state, which learns from it; the others go on."""
    module = make(cell, **options)
    first, second = inputs(module).split([4, 5], dim=time(module))
    carried, goes_on = module.stateful(), module.stateful()
    carried(first)
    goes_on(first)
    carried.reset(which)
    assert_same(carried.state, [s.detach() for s in flat(carried._start())])
    y, expected, fresh = carried(second)[0], goes_on(second)[0], module(second)[0]
    batch = 1 - time(module)
    for n in range(N):
        assert_same(y.select(batch, n), (fresh if n in (0, 3) else expected).select(batch, n))
    y.sum().backward()
    if module.learn_initial_state:
        assert all(p.grad.any() for name, p in module.named_parameters() if "_0" in name)


def test_resets_add_up_and_end_with_the_next_call():
    carried = make().stateful()
    carried.reset([0])  # nothing to reset yet, and no batch to know
    assert carried.state is None
    carried(torch.randn(T, N, C, dtype=torch.float64))
    done = torch.tensor([True, False, False, False])
    carried.reset(done)
    done.logical_not_()  # the environment's own, which goes on
    carried.reset([])
    carried.reset([2])
    h = carried.state[0]
    assert [not h[:, n].any() for n in range(N)] == [True, False, True, False]
    carried(torch.randn(T, N, C, dtype=torch.float64))
    assert all(carried.state[0][:, n].any() for n in range(N))
    carried.reset()
    assert carried.state is None


def test_resets_within_a_piece_lengths_and_masks_go_through():
    module = make(learn_initial_state=True)
    x, lengths = torch.randn(T, N, C, dtype=torch.float64), [9, 2, 0, 5]
    mask, reset = torch.rand(T, N) < 0.7, torch.rand(T, N) < 0.3
    carried = module.stateful()
    _, state = carried(x, lengths=lengths)
    y, end = carried(x, mask=mask, reset=reset)
    expected, expected_end = module(x, state, mask=mask, reset=reset)
    assert_same((y, end), (expected, expected_end))


def test_the_state_may_be_kept_and_set():
    module = make(num_layers=2)
    x = torch.randn(2 * T, N, C, dtype=torch.float64)
    carried = module.stateful()
    carried(x[:T])
    kept = copy.deepcopy(carried.state)
    expected = carried(x[T:])
    resumed = module.stateful()
    resumed.state = kept
    assert_same(resumed(x[T:]), expected)
    carried.state = None
    assert_same(carried(x), module(x))


@pytest.mark.parametrize("cell", KINDS)
def test_one_sequence_without_a_batch_and_packed_ones(cell):
    module = make(cell)
    x, carried = torch.randn(2 * T, N, C, dtype=torch.float64), module.stateful()
    assert_same(torch.cat([carried(piece)[0] for piece in x[:, 0].split(4)]), module(x[:, 0])[0])
    with pytest.raises(ValueError, match=r"^reset: expected no argument for an unbatched state"):
        carried.reset([0])
    carried.reset()
    lengths = [5, 9, 1, 7]
    carried(pack_padded_sequence(x[:T], lengths, enforce_sorted=False))
    after = module(x[:T], lengths=lengths)[1]
    assert_same(carried(x[T:]), module(x[T:], after))


def test_what_was_returned_may_be_written_to():
    carried, x = undertow.LSTM(3, 4).stateful(), torch.randn(6, 2, 3)
    with torch.no_grad():
        _, (h_n, c_n) = carried(x[:3])
        h_n.zero_()
        c_n.zero_()
        y, _ = carried(x[3:])
        assert torch.equal(y, carried.layer(x)[0][3:])


def test_another_batch_is_refused_and_the_state_stays():
    module = make()
    carried, x = module.stateful(), torch.randn(T, N, C, dtype=torch.float64)
    carried(x)
    before = carried.state
    message = r"^input: expected 4 sequences, as in the call before, got {}; reset\(\) begins anew"
    with pytest.raises(ValueError, match=message.format("3 sequences")):
        carried(x[:, :3])
    with pytest.raises(ValueError, match=message.format("no batch")):
        carried(x[:, 0])
    with pytest.raises(ValueError, match=message.format("2 sequences")):
        carried(pack_padded_sequence(x[:, :2], [9, 3]))
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size"):
        carried(x[..., :2])
    with pytest.raises(ValueError, match="Expected input to be 2D or 3D, got 1D"):
        carried(x[0, 0])
    assert_same(carried.state, before)
    carried.reset()
    assert carried(x[:, :3])[0].shape == (T, 3, H)


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([4], ValueError, r"indices of 4 sequences, got \[4\]"),
        ([9], ValueError, r"indices of 4 sequences, got \[9\]"),
        ([-5], ValueError, r"indices of 4 sequences, got \[-5\]"),
        ([0, -9], ValueError, r"indices of 4 sequences, got \[0, -9\]"),
        ([True, False], ValueError, r"booleans of shape \[4\], got \[2\]"),
        ([0.5], TypeError, "indices or booleans, got torch.float32"),
    ],
)
def test_what_names_no_sequences(sequences, error, message):
    carried = make().stateful()
    carried(torch.randn(T, N, C, dtype=torch.float64))
    with pytest.raises(error, match=f"^reset: expected {message}"):
        carried.reset(sequences)


@pytest.mark.parametrize("cell", KINDS)
def test_both_ways_is_refused(cell):
    with pytest.raises(ValueError, match=r"^stateful: expected bidirectional=False: the reverse direction"):
        make(cell, bidirectional=True).stateful()
