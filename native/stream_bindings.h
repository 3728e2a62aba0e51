// The streaming runtime for Python: a plan made of a network's stages, and streams that run on it.
#pragma once
#include "checks.h"
#include "stream_plan.h"

namespace undertow {
namespace {

// ---- arrays ----

// The fields of a NumPy array, whose places are part of NumPy's ABI: its own macros read them there. A step takes less
// time than DLPack or the buffer protocol take to look at two arrays.
struct NumpyArray {
  PyObject_HEAD
  char* data;
  int ndim;
  Py_ssize_t *shape, *strides;
  PyObject *base, *dtype;
  int flags;
  static constexpr int contiguous = 0x1, aligned = 0x100, writable = 0x400;
};

struct Numpy {
  PyTypeObject* type;
  PyObject* float32;
};

Numpy numpy{};  // filled when the module is made

Numpy find_numpy() {
  const nb::module_ module = nb::module_::import_("numpy");
  const nb::object array = module.attr("zeros")(nb::make_tuple(2, 3), "float32");
  const auto* fields = reinterpret_cast<const NumpyArray*>(array.ptr());
  const nb::object dtype = module.attr("dtype")("float32");
  // Where the fields are not what they should be no array is taken for a NumPy array, and DLPack reads all.
  const bool known = fields->ndim == 2 && fields->shape[0] == 2 && fields->shape[1] == 3 && fields->strides[0] == 12 &&
                     fields->dtype == dtype.ptr() &&
                     reinterpret_cast<std::uintptr_t>(fields->data) ==
                         nb::cast<std::uintptr_t>(array.attr("ctypes").attr("data"));
  const nb::object type = module.attr("ndarray");
  return {known ? reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr()) : nullptr, dtype.inc_ref().ptr()};
}

// An argument that `floats_of` checked: float32, contiguous.
struct Floating {
  float* data;
  idx steps;     // 1 where a single step is asked for
  const NumpyArray* by_numpy;  // or null
};

template <bool writes>
Floating floats_of(const char* name, nb::handle object, Held& held, bool block, idx rows, bool many, idx columns) {
  idx extent[4], ndim = 0;
  float* data = nullptr;
  const NumpyArray* by_numpy = nullptr;
  const auto* fields = reinterpret_cast<const NumpyArray*>(object.ptr());
  constexpr int needed = NumpyArray::contiguous | NumpyArray::aligned | (writes ? NumpyArray::writable : 0);
  if (Py_TYPE(object.ptr()) == numpy.type && fields->dtype == numpy.float32 && (fields->flags & needed) == needed &&
      fields->ndim < 4) {
    data = reinterpret_cast<float*>(fields->data), by_numpy = fields;
    for (ndim = 0; ndim < fields->ndim; ++ndim) extent[ndim] = fields->shape[ndim];
  } else {
    using P = std::conditional_t<writes, float, const float>;
    const ArrayOf<P> array(object, held);
    check_usable(name, array);
    if (array.ndim() > 3) refuse(name, shape_of(array), "at most three dimensions");
    for (ndim = 0; ndim < array.ndim(); ++ndim) extent[ndim] = array.shape(ndim);
    Shape shape{};
    for (shape.ndim = 0; shape.ndim < ndim; ++shape.ndim) shape.extent[shape.ndim] = extent[shape.ndim];
    data = const_cast<float*>(contiguous<P>(name, array, shape));
  }
  idx expected[3], count = 0;
  if (block) expected[count++] = ndim ? extent[0] : 0;
  if (many) expected[count++] = rows;
  expected[count++] = columns;
  bool same = ndim == count || (columns == 1 && ndim == count - 1);
  for (idx k = 0; same && k < ndim; ++k) same = extent[k] == expected[k];
  if (!same) {
    std::string text = block ? "shape [T" : "shape [";
    if (many) text += (block ? ", " : "") + std::to_string(rows);
    text += (block || many ? ", " : "") + std::to_string(columns) + "]";
    refuse(name, shape_text(ndim, [&](idx k) { return extent[k]; }), text);
  }
  return {data, block ? extent[0] : 1, by_numpy};
}

// ---- a plan from a network's stages ----

// One stage's fields in a Python dict; an absent array is null. Arrays live as long as `kept`.
class Fields {
 public:
  Fields(nb::dict from, Held& held, std::size_t number) : from_(from), held_(held), name_("stage " + std::to_string(number)) {}

  const float* array(const char* key, Shape shape) const {
    if (!from_.contains(key) || nb::object(from_[key]).is_none()) return nullptr;
    const std::string name = name_ + ", " + key;
    return contiguous<const float>(name.c_str(), In(nb::object(from_[key]), held_), shape);
  }
  const float* needed(const char* key, Shape shape) const {
    const float* found = array(key, shape);
    if (!found) refuse((name_ + ", " + key).c_str(), "None", "an array");
    return found;
  }
  idx size(const char* key) const {
    const idx n = nb::cast<idx>(from_[key]);
    if (n < 1 || n > most_) refuse((name_ + ", " + key).c_str(), std::to_string(n), "a positive size");
    return n;
  }
  std::string text(const char* key) const { return from_.contains(key) ? nb::cast<const char*>(from_[key]) : ""; }
  float number(const char* key) const { return from_.contains(key) ? nb::cast<float>(from_[key]) : 0.0f; }
  bool flag(const char* key) const { return from_.contains(key) && nb::cast<bool>(from_[key]); }

  template <class E>
  E choice(const char* key, std::initializer_list<const char*> names) const {
    const std::string given = text(key);
    int k = 0;
    for (const char* name : names) {
      if (given == name) return static_cast<E>(k);
      ++k;
    }
    refuse((name_ + ", " + key).c_str(), given, "another name");
  }

 private:
  static constexpr idx most_ = idx{1} << 28;
  nb::dict from_;
  Held& held_;
  const std::string name_;
};

bool within_one(const float* values, idx n) {
  return std::all_of(values, values + n, [](float v) { return v >= -1 && v <= 1; });
}
bool finite(const float* values, idx n) {
  return std::all_of(values, values + n, [](float v) { return std::isfinite(v); });
}

// Whether what the stage gives lies between -1 and 1.
bool gives_bounded(const Stage& s) {
  const bool by_tanh = s.kind == Kind::lstm ? !s.projection : s.kind == Kind::rnn && s.activation == Activation::tanh;
  return by_tanh && within_one(s.h_0, s.out);
}

Stage stage_of(const Fields& f) {
  Stage s{};
  s.kind = f.choice<Kind>("kind", {"embedding", "normalise", "scale", "lstm", "rnn", "dense", "pool"});
  s.in = f.size("in"), s.out = f.size("out");
  const idx C = s.in, R = s.out;
  switch (s.kind) {
    case Kind::embedding:
      s.symbols = f.size("symbols");
      if (C != 1) refuse("in", std::to_string(C), "1, a symbol");
      s.first = f.needed("weight", {s.symbols, R});
      break;
    case Kind::normalise:
      if (C != R) refuse("out", std::to_string(R), std::to_string(C));
      s.first = f.needed("centre", {C}), s.second = f.needed("scale", {C});
      break;
    case Kind::scale:
      if (C != R) refuse("out", std::to_string(R), std::to_string(C));
      s.first = f.needed("scale", {C}), s.second = f.needed("shift", {C});
      break;
    case Kind::lstm:
    case Kind::rnn: {
      const idx H = s.hidden = f.size("hidden"), G = s.kind == Kind::lstm ? 4 : 1;
      s.first = f.needed("weight_ih", {G * H, C}), s.second = f.needed("weight_hh", {G * H, R});
      s.bias = f.needed("bias", {G * H}), s.h_0 = f.needed("h_0", {R});
      if (s.kind == Kind::rnn) {
        if (R != H) refuse("out", std::to_string(R), std::to_string(H));
        s.activation = f.text("activation") == std::string("relu") ? Activation::relu : Activation::tanh;
        s.zoneout_h = f.number("zoneout_h");
        break;
      }
      s.c_0 = f.needed("c_0", {H});
      s.projection = f.array("weight_hr", {R, H});
      if (!s.projection && R != H) refuse("out", std::to_string(R), std::to_string(H));
      s.peepholes = f.array("peepholes", {3, H});
      s.gain_x = f.array("gain_x", {4 * H});
      if (s.gain_x) {
        s.gain_h = f.needed("gain_h", {4 * H}), s.gain_c = f.needed("gain_c", {H});
        s.bias_c = f.needed("bias_c", {H});
      }
      s.zoneout_h = f.number("zoneout_h"), s.zoneout_c = f.number("zoneout_c"), s.coupled = f.flag("coupled");
      s.narrow = f.flag("narrow") && !s.varied() && within_one(s.h_0, H) && finite(s.first, 4 * H * C) &&
                 finite(s.second, 4 * H * H);
      break;
    }
    case Kind::dense:
      s.first = f.needed("weight", {R, C}), s.bias = f.needed("bias", {R});
      s.activation = f.choice<Activation>("activation", {"", "tanh", "sigmoid", "relu", "softmax"});
      break;
    case Kind::pool:
      s.pooling = f.choice<Pooling>("pooling", {"mean", "max", "mean-max", "attention"});
      if (R != C * (s.pooling == Pooling::mean_max ? 2 : 1)) refuse("out", std::to_string(R), "the width of the pool");
      if (s.pooling == Pooling::attention) s.first = f.needed("query", {C});
  }
  return s;
}

std::shared_ptr<const Plan> plan_of(nb::list given, idx skip) {
  const Streaming* level = streaming();
  if (!level) usable_kernels();  // says which levels there are
  Held held;
  std::vector<Stage> stages;
  for (nb::handle fields : given)
    stages.push_back(stage_of(Fields(nb::cast<nb::dict>(fields), held, stages.size() + 1)));
  if (stages.empty()) refuse("stages", "none", "at least one");
  for (std::size_t k = 1; k < stages.size(); ++k) {
    if (stages[k].in != stages[k - 1].out)
      refuse("stages", std::to_string(stages[k].in), "as many inputs as outputs of the stage before");
    if (stages[k].kind == Kind::embedding) refuse("stages", "an embedding later", "an embedding first only");
    stages[k].bounded = stages[k].narrow && gives_bounded(stages[k - 1]);
  }
  const idx both = std::min(stages.front().in, stages.back().out);
  if (skip < 0 || skip > both) refuse("skip", std::to_string(skip), "between 0 and " + std::to_string(both));
  return std::make_shared<const Plan>(*level, std::move(stages), skip);
}

// ---- streams ----

class PyStreams {
 public:
  PyStreams(std::shared_ptr<const Plan> plan, idx rows, bool many) : streams_(std::move(plan), rows), many_(many) {}

  void step(nb::handle x, nb::handle out) { run(x, out, false); }
  void process(nb::handle x, nb::handle out) { run(x, out, true); }
  void reset() {
    refuse_busy();
    streams_.reset();
  }
  // Copies floats of every row's state from `offset` on, out of it or into it.
  void move_state(idx stage, idx offset, nb::handle array, bool write) {
    const Plan& plan = *streams_.plan;
    if (stage < 0 || stage >= static_cast<idx>(plan.stages.size())) refuse("stage", std::to_string(stage), "a stage");
    const auto k = static_cast<std::size_t>(stage);
    Held held;
    Out given(array, held);
    check_usable("array", given);
    const idx n = given.ndim() == 2 ? given.shape(1) : -1, all = plan.level.state(plan.stages[k]);
    if (n < 0 || offset < 0 || n > all || offset > all - n) refuse("array", shape_of(given), "part of the state");
    auto* data = contiguous<float>("array", given, {streams_.rows, n});
    refuse_busy();
    const auto bytes = sizeof(float) * static_cast<std::size_t>(n);
    for (idx row = 0; row < streams_.rows; ++row) {
      float* state = streams_.state_of(k, row) + offset;
      if (write) std::memcpy(state, data + row * n, bytes);
      else std::memcpy(data + row * n, state, bytes);
    }
  }
  idx lanes() const { return streams_.plan->level.lanes; }

  // What `bind` checked, and a step on it.
  struct Arguments {
    Floating x, out;
  };
  void step_bound(const Arguments& bound) { run(bound); }
  Arguments checked(nb::handle x, nb::handle out) const {
    Held held;
    const Arguments call = arguments(x, out, held, false);
    if (!call.x.by_numpy) refuse_type("x", type_of(x), "a numpy.ndarray to bind");
    if (!call.out.by_numpy) refuse_type("out", type_of(out), "a numpy.ndarray to bind");
    return call;
  }

 private:
  // Python's other threads run meanwhile where that is worth more than what giving way costs.
  static constexpr idx long_enough = 500'000;  // multiplications

  void refuse_busy() {
    if (streams_.busy.test(std::memory_order_acquire))
      throw std::runtime_error("this stream is in use by another thread; give each thread a stream of its own");
  }

  Arguments arguments(nb::handle given, nb::handle to, Held& held, bool block) const {
    const Plan& plan = *streams_.plan;
    const idx N = streams_.rows, C = plan.in(), O = plan.out();
    const Floating x = floats_of<false>("x", given, held, block, N, many_, C);
    const Floating out = floats_of<true>("out", to, held, block, N, many_, O);
    if (x.steps != out.steps) refuse("out", std::to_string(out.steps) + " steps", std::to_string(x.steps));
    const bool apart = x.data + x.steps * N * C <= out.data || out.data + x.steps * N * O <= x.data;
    if (!apart && !(x.data == out.data && C == O)) refuse("out", "memory that overlaps x", "memory of its own");
    return {x, out};
  }

  void run(nb::handle given, nb::handle to, bool block) {
    Held held;  // for as long as the stream runs
    run(arguments(given, to, held, block));
  }

  void run(const Arguments& call) {
    const Floating &x = call.x, &out = call.out;
    if (!streams_.known(x.data, x.steps)) {
      const std::string last = std::to_string(streams_.plan->stages.front().symbols - 1);
      refuse("x", "others", "whole numbers from 0 to " + last + ", the symbols");
    }
    refuse_busy();
    if (streams_.plan->work * x.steps * streams_.rows < long_enough)
      return streams_.process(x.data, x.steps, out.data);
    streams_.busy.test_and_set(std::memory_order_acquire);
    {
      nb::gil_scoped_release unlocked;
      streams_.process(x.data, x.steps, out.data);
    }
    streams_.busy.clear(std::memory_order_release);
  }

  Streams streams_;
  const bool many_;
};

// A step whose arrays were checked once, as a function without arguments: what is called most often from Python should
// cost little more than the step.
struct Bound {
  nb::object streams, x, out;
  PyStreams* to;
  PyStreams::Arguments arguments;
  Py_ssize_t floats[2];

  static Py_ssize_t size(const NumpyArray* array) {
    Py_ssize_t n = 1;
    for (int k = 0; k < array->ndim; ++k) n *= array->shape[k];
    return n;
  }
  // NumPy moves an array's memory where it is told to ignore who refers to the array.
  bool stays(const Floating& array, Py_ssize_t n) const {
    return array.by_numpy->data == reinterpret_cast<char*>(array.data) && size(array.by_numpy) == n;
  }
};

PyObject* step_bound(PyObject* self, PyObject*) {
  auto* bound = nb::inst_ptr<Bound>(self);
  try {
    if (!bound->streams.is_valid()) throw std::runtime_error("the stream is gone");
    if (!bound->stays(bound->arguments.x, bound->floats[0]) || !bound->stays(bound->arguments.out, bound->floats[1]))
      throw std::runtime_error("an array that was bound has been resized; bind it again");
    bound->to->step_bound(bound->arguments);
  } catch (const nb::builtin_exception& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
    return nullptr;
  }
  Py_RETURN_NONE;
}

// A stream may keep its own bound step: Python's collector has to see through it.
int visit_bound(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  auto* bound = nb::inst_ptr<Bound>(self);
  Py_VISIT(bound->streams.ptr());
  Py_VISIT(bound->x.ptr());
  Py_VISIT(bound->out.ptr());
  return 0;
}

int clear_bound(PyObject* self) {
  auto* bound = nb::inst_ptr<Bound>(self);
  bound->streams.reset();
  bound->x.reset();
  bound->out.reset();
  return 0;
}

PyType_Slot bound_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(visit_bound)},
                             {Py_tp_clear, reinterpret_cast<void*>(clear_bound)},
                             {0, nullptr}};

nb::object bind(nb::handle self, nb::handle x, nb::handle out) {
  static PyMethodDef definition{"step", step_bound, METH_NOARGS, "Take one step on the arrays that were bound."};
  auto* streams = nb::cast<PyStreams*>(self);
  const PyStreams::Arguments call = streams->checked(x, out);
  const nb::object bound = nb::cast(Bound{nb::borrow(self), nb::borrow(x), nb::borrow(out), streams, call,
                                          {Bound::size(call.x.by_numpy), Bound::size(call.out.by_numpy)}});
  return nb::steal(PyCFunction_New(&definition, bound.ptr()));
}

struct PyPlan {
  std::shared_ptr<const Plan> plan;
};

void bind_streams(nb::module_& m) {
  try {
    numpy = find_numpy();
  } catch (nb::python_error& error) {  // the build imports this module for its stub where NumPy need not be installed
    if (!error.matches(PyExc_ImportError)) throw;
  }
  nb::class_<Bound>(m, "_Bound", nb::type_slots(bound_slots));
  nb::class_<PyPlan>(m, "Plan", "A network's stages, packed for this processor. Streams share it.")
      .def("__init__", [](PyPlan* self, nb::list stages, idx skip) { new (self) PyPlan{plan_of(stages, skip)}; },
           nb::arg("stages"), nb::arg("skip"), nb::sig("def __init__(self, stages: list[dict[str, typing.Any]], skip: int) -> None"));
  nb::class_<PyStreams>(m, "Streams", "Streams of one plan, each with its own state.")
      .def("__init__",
           [](PyStreams* self, const PyPlan& plan, idx rows, bool many) {
             if (rows < 1 || rows > (1 << 20)) refuse("rows", std::to_string(rows), "between 1 and 1048576");
             new (self) PyStreams(plan.plan, rows, many);
           },
           nb::arg("plan"), nb::arg("rows"), nb::arg("many"),
           nb::sig("def __init__(self, plan: Plan, rows: int, many: bool) -> None"))
      .def("step", &PyStreams::step, nb::arg("x").none(), nb::arg("out").none(),
           nb::sig("def step(self, x: typing.Any, out: typing.Any) -> None"),
           R"(Take one step. Nothing is allocated.

Args:
    x: The input, float32 [C]; [N,C] of N streams. A last dimension of 1 may be left out.
    out: Where the output is written, float32 [O]; [N,O] of N streams.

Raises:
    TypeError: An array has another dtype or cannot be read.
    ValueError: A shape does not fit. The message names the argument.
    RuntimeError: Another thread is using the stream.)")
      .def("bind", bind, nb::arg("x").none(), nb::arg("out").none(),
           nb::sig("def bind(self, x: typing.Any, out: typing.Any) -> collections.abc.Callable[[], None]"),
           R"(Check the arrays of ``step`` once.

Args:
    x: As of ``step``, a NumPy array. Whoever binds it writes each input into it.
    out: As of ``step``, a NumPy array.

Returns:
    A function without arguments that takes one step on these arrays.

Raises:
    TypeError: As ``step`` does.
    ValueError: As ``step`` does.)")
      .def("run", &PyStreams::process, nb::arg("x").none(), nb::arg("out").none(),
           nb::sig("def run(self, x: typing.Any, out: typing.Any) -> None"),
           "Take T steps, x [T,C] or [T,N,C], out [T,O] or [T,N,O], as ``step`` does. Nothing is allocated.")
      .def("reset", &PyStreams::reset, "Return to the initial state.")
      .def("move_state", &PyStreams::move_state, nb::arg("stage"), nb::arg("offset"), nb::arg("array").none(),
           nb::arg("write"), nb::sig("def move_state(self, stage: int, offset: int, array: typing.Any, write: bool) -> None"))
      .def_prop_ro("lanes", &PyStreams::lanes);
}

}  // namespace
}  // namespace undertow
