// Python in, kernels out: this file and what it includes know both. Every array's dtype, device, shape and strides is
// checked, so that no call from Python can make a kernel read or write where it should not, and other Python threads
// run while a kernel works.
#include <nanobind/nanobind.h>

#include "cached.h"
#include "head_call.h"
#include "layer_call.h"
#include "machine.h"
#include "scratch.h"
#include "stream_bindings.h"
#include "threads.h"

using namespace undertow;

namespace {

void forward(nb::handle cell, nb::handle x, nb::handle states, nb::handle weights, nb::handle outputs, nb::handle tape,
             nb::handle ragged, nb::handle options, bool reverse, int threads) {
  const ForwardGiven given{{cell, x, {"states", states}, {"weights", weights}, {"tape", tape}, {"ragged", ragged},
                            Options(options), reverse, threads},
                           {"outputs", outputs}};
  run_pass<Forward, VariedForward>(given, given.options.any);
}

void backward(nb::handle cell, nb::handle x, nb::handle states, nb::handle weights, nb::handle y, nb::handle tape,
              nb::handle douts, nb::handle dins, nb::handle dsteps, nb::handle ragged, nb::handle options,
              nb::handle doptions, bool reverse, int threads) {
  const BackwardGiven given{{cell, x, {"states", states}, {"weights", weights}, {"tape", tape}, {"ragged", ragged},
                             Options(options), reverse, threads},
                            y, {"douts", douts}, {"dins", dins}, {"dsteps", dsteps}, OptionGradients(doptions)};
  run_pass<Backward, VariedBackward>(given, given.options.any || given.doptions.any);
}

template <class T>
void apply(void (*function)(const T*, T*, idx), const In& x, const Out& y) {
  const idx n = x.size();
  function(contiguous<const T>("x", x, {n}), contiguous<T>("y", y, {n}), n);
}

void apply(void (*f32)(const float*, float*, idx), void (*f64)(const double*, double*, idx), nb::handle from,
           nb::handle to) {
  Held held;
  const In x(from, held);
  const Out y(to, held);
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return apply<float>(f32, x, y);
  if (x.dtype() == nb::dtype<double>()) return apply<double>(f64, x, y);
  refuse_dtype(x, "float32 or float64");
}

double measured_peak(int threads, double seconds) {
  if (threads < 1) refuse("threads", std::to_string(threads), "at least 1");
  if (!(seconds > 0)) refuse("seconds", std::to_string(seconds), "more than 0");
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  return fma_peak(k, threads, seconds);
}

double measured_handover(int rounds) {
  if (rounds < 1) refuse("rounds", std::to_string(rounds), "at least 1");
  nb::gil_scoped_release unlocked;
  return handover(rounds);
}

std::int64_t read_parts(int file, nb::handle offsets, nb::handle parts, nb::handle missing, int threads) {
  if (threads < 1) refuse("threads", std::to_string(threads), "at least 1");
  Call call;
  const Out to(parts, call.held);
  check_usable("parts", to);
  if (to.ndim() != 2) refuse("parts", shape_of(to), "shape [N,M]");
  const idx N = to.shape(0), M = to.shape(1);
  float* const into = contiguous<float>("parts", to, {N, M});
  const auto* from = contiguous<const std::int64_t>(call, "offsets", offsets, {N});
  bool* const late = contiguous<bool>(call, "missing", missing, {N});
  nb::gil_scoped_release unlocked;
  return read_cached(file, from, N, M * idx{sizeof(float)}, reinterpret_cast<char*>(into), late, threads);
}

// Here and not in Python, because the checks of five tensors cost a call of one step a tenth of its time there.
bool are_plain(const nb::tuple& tensors, const nb::tuple& types) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  Held held;
  nb::dlpack::dtype dtype{};
  for (nb::handle tensor : tensors) {
    if (tensor.is_none()) continue;
    bool own = false;
    for (nb::handle type : types) own |= type.is(tensor.type());
    if (!own) return false;
    const In array(tensor, held);
    if (!dtype.bits) dtype = array.dtype();
    if (!array.usable() || array.dtype() != dtype) return false;
    PyObject* const self = tensor.ptr();
    const nb::object negated =
        nb::steal(PyObject_VectorcallMethod(is_neg, &self, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
    if (negated.ptr() != Py_False) return PyErr_Clear(), false;
  }
  return true;
}

// A tensor [count], not initialised, in memory that goes back to the pool when the last tensor over it dies.
using Tensor = nb::ndarray<nb::pytorch, nb::device::cpu, nb::ndim<1>>;

Tensor pooled(idx count, nb::dlpack::dtype dtype) {
  struct Loan {
    void* data;
    std::size_t bytes;
  };
  if (count < 0) refuse("count", std::to_string(count), "at least 0");
  const std::size_t bytes = static_cast<std::size_t>(count) * dtype.bits / 8, shape[] = {static_cast<std::size_t>(count)};
  auto* loan = new Loan{scratch_take(bytes), bytes};
  nb::capsule owner(loan, [](void* p) noexcept {
    auto* done = static_cast<Loan*>(p);
    scratch_give(done->data, done->bytes);
    delete done;
  });
  return Tensor(loan->data, 1, shape, owner, nullptr, dtype);
}

}  // namespace

namespace {

constexpr const char* forward_sig =
    "def forward(cell: typing.Literal['lstm', 'rnn'], x: typing.Any, "
    "states: collections.abc.Sequence[typing.Any], weights: collections.abc.Sequence[typing.Any], "
    "outputs: collections.abc.Sequence[typing.Any], tape: collections.abc.Sequence[typing.Any] | None, "
    "ragged: collections.abc.Sequence[typing.Any] | None, options: typing.Any, reverse: bool, threads: int) -> None";

constexpr const char* forward_doc = R"(Run one layer in one direction over all time steps, and write its outputs.

Arrays are NumPy arrays or torch tensors on the CPU. native/lstm.h has their layouts.

Args:
    cell: The recurrence.
    x: [T,N,C], or [R,C] where batch_sizes are given; float32, float64 or, without options, bfloat16. Or symbols of the
        LSTM without options, int64 with C = 1: each stands for a column of weight_ih, and the weights' dtype counts.
    states: h_0 and c_0, [N,H] or [1,N,H]. Each may be None for zero; c_0 is None for the RNN.
    weights: weight_ih [G*H,C], weight_hh [G*H,H], bias_ih and bias_hh [G*H] or None, then nothing but None.
    outputs: y, like x with H features, h_n and c_n like the states. h_n may be None; c_n is None for the RNN.
    tape: gates and c, with layer normalisation also normed and scale, for a backward pass. None for no tape.
    ragged: lengths [N], batch_sizes [T] and order [N], int64, each may be None. None for sequences of length T.
    options: What is added to the LSTM, as the attributes mask, reset (as run), reset_h, reset_c, recurrent,
        zoneout_h, zoneout_c, peepholes, coupled, gain_x, gain_h, gain_c and bias_c. None for nothing.
    reverse: Whether to run from the last step to the first.
    threads: How many threads to use, at least 1. Results do not depend on it.

Raises:
    TypeError: An array has another dtype than x, or is none on the CPU.
    ValueError: A shape, a stride or a length does not fit. The message names the argument.)";

constexpr const char* plain_doc = R"(Whether the kernels may read the memory of all these torch tensors.

Args:
    tensors: Each may be None.
    types: The types that tensors may have. A subclass may be anything: fake, distributed, quantised.

Returns:
    False if a tensor has another type or another dtype than the first, is not a dense one on the CPU, or is negated
    lazily or holds no numbers.)";

constexpr const char* read_doc = R"(Read those parts of a file that the system has in its cache, and wait for none.

Args:
    file: Its descriptor.
    offsets: Where the parts begin, in bytes, int64 [N].
    parts: float32 [N,M]; filled where a part is in the cache, else undefined.
    missing: bool [N]; filled: where a part is not wholly there, or the system cannot tell.
    threads: How many threads to use, at least 1.

Returns:
    How many parts are missing.

Raises:
    TypeError: An array has another dtype, or is none on the CPU.
    ValueError: A shape or a stride does not fit. The message names the argument.)";

constexpr const char* backward_sig =
    "def backward(cell: typing.Literal['lstm', 'rnn'], x: typing.Any, "
    "states: collections.abc.Sequence[typing.Any], weights: collections.abc.Sequence[typing.Any], "
    "y: typing.Any, tape: collections.abc.Sequence[typing.Any] | None, "
    "douts: collections.abc.Sequence[typing.Any], dins: collections.abc.Sequence[typing.Any], "
    "dsteps: collections.abc.Sequence[typing.Any] | None, "
    "ragged: collections.abc.Sequence[typing.Any] | None, options: typing.Any, doptions: typing.Any, "
    "reverse: bool, threads: int) -> None";

constexpr const char* backward_doc = R"(Go back through the steps of a forward pass, and write the gradients asked for.

Args:
    cell: As for forward, like x, states, ragged, options, reverse and threads.
    weights: weight_ih and weight_hh. Biases are not read.
    y: The output of the forward pass.
    tape: What the forward pass left; None for the RNN.
    douts: Gradients of y, h_n and c_n. None counts as zero.
    dins: Where to write the gradients of x, h_0, c_0, weight_ih, weight_hh and of the sum of both biases. Each may be
        None.
    dsteps: Where to write the gradients of every step's gates before their activation, of h and of c. Each, and
        the whole, may be None.
    doptions: Where to write the gradients of options, as the attributes reset_h, reset_c, peepholes, gain_x,
        gain_h, gain_c and bias_c. Each, and the whole, may be None.

Raises:
    TypeError: As forward does.
    ValueError: As forward does.)";

constexpr const char* head_sig =
    "def head(hidden: typing.Any, features: typing.Any, kept: typing.Any, "
    "weights: collections.abc.Sequence[typing.Any], window: collections.abc.Sequence[typing.Any] | None, "
    "target: typing.Any, unit: typing.Any, unscored: int, output: typing.Any, "
    "gradients: collections.abc.Sequence[typing.Any] | None) -> tuple[float, int, int]";

constexpr const char* head_doc = R"(Compute what follows the layers of a small network, its loss and all gradients. native/head.h has the equations.

Args:
    hidden: y [T,N,F/2], whose mean and largest are the features; or None.
    features: [N,F]; written where there is hidden. All numbers are float32 or float64.
    kept: Factors of the features, [N,F]; or None.
    weights: weight [O,F] and bias [O].
    window: Of a forecast last and size [N,K], moves [T,N,K] and the linear part [K,O/K,T]; or None.
    target: Numbers [N,O], or classes int64 [N].
    unit: Of numbers [O] or [N,O]; of classes their weights [O], or None.
    unscored: The class that is no target.
    output: Where to write the predictions, [N,O].
    gradients: Where to write those of hidden, features, weight, bias and the linear part, the first and the last of them
        None where there is none; or None.

Returns:
    The loss, how many targets there are, and of classes for how many the largest output is that of the target.

Raises:
    TypeError: An array has another dtype, or is none on the CPU.
    ValueError: A shape or a class does not fit. The message names the argument.)";

}  // namespace

// Handles take any object, so that the checks name an argument that cannot be used.
NB_MODULE(_native, m) {
  m.doc() = "The CPU kernels. native/lstm.h has their contract; undertow.kernels.native is the way in.";
  nb::exception<Scattered>(m, "Scattered", PyExc_ValueError);
  m.def("forward", forward, nb::arg("cell").none(), nb::arg("x").none(), nb::arg("states").none(),
        nb::arg("weights").none(), nb::arg("outputs").none(), nb::arg("tape").none(), nb::arg("ragged").none(),
        nb::arg("options").none(), nb::arg("reverse"), nb::arg("threads"), nb::sig(forward_sig), forward_doc);
  m.def("backward", backward, nb::arg("cell").none(), nb::arg("x").none(), nb::arg("states").none(),
        nb::arg("weights").none(), nb::arg("y").none(), nb::arg("tape").none(), nb::arg("douts").none(),
        nb::arg("dins").none(), nb::arg("dsteps").none(), nb::arg("ragged").none(), nb::arg("options").none(),
        nb::arg("doptions").none(), nb::arg("reverse"), nb::arg("threads"), nb::sig(backward_sig), backward_doc);
  m.def("head", run_head, nb::arg("hidden").none(), nb::arg("features").none(), nb::arg("kept").none(),
        nb::arg("weights").none(), nb::arg("window").none(), nb::arg("target").none(), nb::arg("unit").none(),
        nb::arg("unscored"), nb::arg("output").none(), nb::arg("gradients").none(), nb::sig(head_sig), head_doc);
  m.def("read_cached", read_parts, nb::arg("file"), nb::arg("offsets").none(), nb::arg("parts").none(),
        nb::arg("missing").none(), nb::arg("threads"),
        nb::sig("def read_cached(file: int, offsets: typing.Any, parts: typing.Any, missing: typing.Any, "
                "threads: int) -> int"), read_doc);
  m.def("are_plain", are_plain, nb::arg("tensors"), nb::arg("types"),
        nb::sig("def are_plain(tensors: tuple[typing.Any, ...], types: tuple[type, ...]) -> bool"), plain_doc);
  m.def("isa", [] { return usable_kernels().name; });
  m.def("isa_levels", [] {
    nb::list found;
    for (const char* name : {"baseline", "avx2", "avx512", "avx512bf16"})
      if (kernels(name)) found.append(name);
    return found;
  }, nb::sig("def isa_levels() -> list[str]"));
  m.def("share_openmp", [] { return share_openmp(); });
  m.def("pooled", [](idx count, bool wide) { return pooled(count, wide ? nb::dtype<double>() : nb::dtype<float>()); },
        nb::arg("count"), nb::arg("wide"), nb::sig("def pooled(count: int, wide: bool) -> typing.Any"));
  m.def("release_scratch", [] { scratch_release(); });
  m.def("sigmoid", [](nb::handle x, nb::handle y) {
    apply(usable_kernels().f32.sigmoid, usable_kernels().f64.sigmoid, x, y);
  }, nb::arg("x").none(), nb::arg("y").none(), nb::sig("def sigmoid(x: typing.Any, y: typing.Any) -> None"));
  m.def("tanh", [](nb::handle x, nb::handle y) {
    apply(usable_kernels().f32.tanh, usable_kernels().f64.tanh, x, y);
  }, nb::arg("x").none(), nb::arg("y").none(), nb::sig("def tanh(x: typing.Any, y: typing.Any) -> None"));
  bind_streams(m);
  m.def("fma_peak", measured_peak, nb::arg("threads"), nb::arg("seconds"));
  m.def("handover", measured_handover, nb::arg("rounds"));
}
