// Compiled once per instruction-set level and type of number, with UNDERTOW_KERNELS naming the two, UNDERTOW_TYPE the type,
// and the compiler told of the level.
#include "backward.h"
#include "forward.h"
#include "peak.h"

namespace undertow {
namespace {

template <class T, Vec<T> (*function)(Vec<T>)>
void apply(const T* x, T* y, idx n) {
  for (idx i = 0; i < n; i += lanes<T>) store(y + i, function(load(x + i, n - i)), n - i);
}

template <class T>
constexpr KernelsOf<T> kernels_of() {
  if constexpr (std::is_same_v<T, bf16>) return {run_forward<T, false>, run_backward<T, false>};
  else
    return {run_forward<T, false>, run_backward<T, false>, run_forward<T, true>, run_backward<T, true>,
            apply<T, sigmoid<T>>, apply<T, tanh<T>>, std::is_same_v<T, float> ? multiply_adds : nullptr};
}

}  // namespace

extern const KernelsOf<UNDERTOW_TYPE> UNDERTOW_KERNELS;
constinit const KernelsOf<UNDERTOW_TYPE> UNDERTOW_KERNELS = kernels_of<UNDERTOW_TYPE>();

}  // namespace undertow
