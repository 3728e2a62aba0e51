// Compiled once per instruction-set level, with UNDERTOW_LEVEL naming it and the compiler told of it.
#include "backward.h"
#include "forward.h"
#include "peak.h"

namespace undertow {
namespace {

template <class T, Vec<T> (*function)(Vec<T>)>
void apply(const T* x, T* y, idx n) {
  for (idx i = 0; i < n; i += lanes<T>) store(y + i, function(load(x + i, n - i)), n - i);
}

}  // namespace

#define UNDERTOW_NAME_(level) kernels_##level
#define UNDERTOW_NAME(level) UNDERTOW_NAME_(level)
#define UNDERTOW_TEXT_(level) #level
#define UNDERTOW_TEXT(level) UNDERTOW_TEXT_(level)

extern const Kernels UNDERTOW_NAME(UNDERTOW_LEVEL);
const Kernels UNDERTOW_NAME(UNDERTOW_LEVEL) = {
    UNDERTOW_TEXT(UNDERTOW_LEVEL),
    run_forward<float, false>,
    run_forward<double, false>,
    run_forward<bf16, false>,
    run_backward<float, false>,
    run_backward<double, false>,
    run_backward<bf16, false>,
    run_forward<float, true>,
    run_forward<double, true>,
    run_backward<float, true>,
    run_backward<double, true>,
    apply<float, sigmoid<float>>,
    apply<float, tanh<float>>,
    apply<double, sigmoid<double>>,
    apply<double, tanh<double>>,
    multiply_adds,
};

}  // namespace undertow
