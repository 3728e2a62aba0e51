// Python in, kernels out: this file and what it includes know both. Every array's dtype, device, shape and strides is
// checked, so that no call from Python can make a kernel read or write where it should not, and other Python threads
// run while a kernel works.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "machine.h"
#include "scratch.h"
#include "threads.h"
#include "varied_call.h"

using namespace undertow;

namespace {

template <template <class> class Pass, class... Args>
void run_pass(const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    Pass<T> pass;
    Tables tables;
    describe<T>(pass, tables, cell, x, args...);
    run(pass);
  });
}

template <class T>
void apply(void (*function)(const T*, T*, idx), const In& x, const Out& y) {
  const idx n = x.size();
  function(contiguous<T>("x", x, {n}), contiguous<T>("y", y, {n}), n);
}

void apply(void (*f32)(const float*, float*, idx), void (*f64)(const double*, double*, idx), const In& x,
           const Out& y) {
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

NB_MODULE(_native, m) {
  m.doc() = "The CPU kernels. See native/lstm.h for the contract; undertow.kernels.native is the way in.";
  m.def("forward",
        run_pass<Forward, OptionalIn, OptionalIn, In, In, OptionalIn, OptionalIn, Out, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("bias_ih").none(),
        nb::arg("bias_hh").none(), nb::arg("y").none(), nb::arg("h_n").none(), nb::arg("c_n").none(),
        nb::arg("gates").none(), nb::arg("c").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(),
        nb::arg("order").none(), nb::arg("reverse"), nb::arg("threads"));
  m.def("backward",
        run_pass<Backward, OptionalIn, OptionalIn, In, In, In, OptionalIn, OptionalIn, OptionalIn, OptionalIn,
        OptionalIn, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("y").none(), nb::arg("gates").none(),
        nb::arg("c").none(), nb::arg("dy").none(), nb::arg("dh_n").none(), nb::arg("dc_n").none(),
        nb::arg("dx").none(), nb::arg("dh_0").none(), nb::arg("dc_0").none(), nb::arg("dweight_ih").none(),
        nb::arg("dweight_hh").none(), nb::arg("dbias").none(), nb::arg("dgates").none(), nb::arg("dh").none(),
        nb::arg("dc").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(), nb::arg("order").none(),
        nb::arg("reverse"), nb::arg("threads"));
  m.def("varied_forward",
        varied_forward<OptionalIn, OptionalIn, In, In, OptionalIn, OptionalIn, Out, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("mask").none(), nb::arg("reset").none(), nb::arg("h_reset").none(), nb::arg("c_reset").none(),
        nb::arg("recurrent").none(), nb::arg("zoneout_h").none(), nb::arg("zoneout_c").none(),
        nb::arg("peepholes").none(), nb::arg("coupled"), nb::arg("gain_x").none(), nb::arg("gain_h").none(),
        nb::arg("gain_c").none(), nb::arg("bias_c").none(), nb::arg("normed").none(), nb::arg("scale").none(),
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("bias_ih").none(),
        nb::arg("bias_hh").none(), nb::arg("y").none(), nb::arg("h_n").none(), nb::arg("c_n").none(),
        nb::arg("gates").none(), nb::arg("c").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(),
        nb::arg("order").none(), nb::arg("reverse"), nb::arg("threads"));
  m.def("varied_backward",
        varied_backward<OptionalIn, OptionalIn, In, In, In, OptionalIn, OptionalIn, OptionalIn, OptionalIn,
        OptionalIn, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut, OptionalOut,
        OptionalOut, OptionalOut, OptionalIn, OptionalIn, OptionalIn, bool, int>,
        nb::arg("mask").none(), nb::arg("reset").none(), nb::arg("h_reset").none(), nb::arg("c_reset").none(),
        nb::arg("recurrent").none(), nb::arg("zoneout_h").none(), nb::arg("zoneout_c").none(),
        nb::arg("peepholes").none(), nb::arg("coupled"), nb::arg("gain_x").none(), nb::arg("gain_h").none(),
        nb::arg("gain_c").none(), nb::arg("bias_c").none(), nb::arg("normed").none(), nb::arg("scale").none(),
        nb::arg("dh_reset").none(), nb::arg("dc_reset").none(), nb::arg("dpeepholes").none(),
        nb::arg("dgain_x").none(), nb::arg("dgain_h").none(), nb::arg("dgain_c").none(), nb::arg("dbias_c").none(),
        nb::arg("cell"), nb::arg("x").none(), nb::arg("h_0").none(), nb::arg("c_0").none(),
        nb::arg("weight_ih").none(), nb::arg("weight_hh").none(), nb::arg("y").none(), nb::arg("gates").none(),
        nb::arg("c").none(), nb::arg("dy").none(), nb::arg("dh_n").none(), nb::arg("dc_n").none(),
        nb::arg("dx").none(), nb::arg("dh_0").none(), nb::arg("dc_0").none(), nb::arg("dweight_ih").none(),
        nb::arg("dweight_hh").none(), nb::arg("dbias").none(), nb::arg("dgates").none(), nb::arg("dh").none(),
        nb::arg("dc").none(), nb::arg("lengths").none(), nb::arg("batch_sizes").none(), nb::arg("order").none(),
        nb::arg("reverse"), nb::arg("threads"));
  m.def("isa", [] { return usable_kernels().name; });
  m.def("isa_levels", [] {
    nb::list found;
    for (const char* name : {"baseline", "avx2", "avx512", "avx512bf16"})
      if (kernels(name)) found.append(name);
    return found;
  });
  m.def("share_openmp", [] { return share_openmp(); });
  m.def("pooled", [](idx count, bool wide) { return pooled(count, wide ? nb::dtype<double>() : nb::dtype<float>()); },
        nb::arg("count"), nb::arg("wide"));
  m.def("release_scratch", [] { scratch_release(); });
  m.def("sigmoid", [](const In& x, const Out& y) {
    apply(usable_kernels().sigmoid_f32, usable_kernels().sigmoid_f64, x, y);
  });
  m.def("tanh", [](const In& x, const Out& y) { apply(usable_kernels().tanh_f32, usable_kernels().tanh_f64, x, y); });
  m.def("fma_peak", measured_peak, nb::arg("threads"), nb::arg("seconds"));
  m.def("handover", measured_handover, nb::arg("rounds"));
}
