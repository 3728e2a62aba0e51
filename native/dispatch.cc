#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "lstm.h"
#include "stream.h"

namespace undertow {

#define UNDERTOW_DECLARE(level)                  \
  extern const Streaming level##_streaming;      \
  extern const KernelsOf<float> level##_float;   \
  extern const KernelsOf<double> level##_double; \
  extern const KernelsOf<bf16> level##_bf16;
UNDERTOW_DECLARE(baseline)
UNDERTOW_DECLARE(avx2)
UNDERTOW_DECLARE(avx512)
extern const KernelsOf<bf16> avx512bf16_bf16;

namespace {

constexpr Kernels kernels_baseline{"baseline", baseline_float, baseline_double, baseline_bf16};
#ifdef UNDERTOW_AVX2
constexpr Kernels kernels_avx2{"avx2", avx2_float, avx2_double, avx2_bf16};
#endif
#ifdef UNDERTOW_AVX512
#if defined(UNDERTOW_AVX512_OWN_BF16)
constexpr const KernelsOf<bf16>& narrow_bf16 = avx512_bf16;
#elif defined(UNDERTOW_AVX2)
constexpr const KernelsOf<bf16>& narrow_bf16 = avx2_bf16;
#else
constexpr const KernelsOf<bf16>& narrow_bf16 = baseline_bf16;
#endif
constexpr Kernels kernels_avx512{"avx512", avx512_float, avx512_double, narrow_bf16};
#endif
#ifdef UNDERTOW_AVX512BF16  // its instructions are of use for bfloat16 alone
constexpr Kernels kernels_avx512bf16{"avx512bf16", avx512_float, avx512_double, avx512bf16_bf16};
#endif

}  // namespace

const Kernels* kernels(const char* name) {
#ifdef UNDERTOW_AVX512
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (!std::strcmp(name, "avx512")) return wide ? &kernels_avx512 : nullptr;
#ifdef UNDERTOW_AVX512BF16
  if (!std::strcmp(name, "avx512bf16"))
    return wide && __builtin_cpu_supports("avx512bf16") ? &kernels_avx512bf16 : nullptr;
#endif
#endif
#ifdef UNDERTOW_AVX2
  if (!std::strcmp(name, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels_avx2 : nullptr;
#endif
  return std::strcmp(name, "baseline") ? nullptr : &kernels_baseline;
}

const Kernels* kernels() {
  static const Kernels* const chosen = [] {
    const char* wanted = std::getenv("UNDERTOW_ISA");
    if (wanted && *wanted) return kernels(wanted);
    for (const char* name : {"avx512bf16", "avx512", "avx2"})
      if (const Kernels* found = kernels(name)) return found;
    return kernels("baseline");
  }();
  return chosen;
}

#ifdef UNDERTOW_AVX512
bool has_vnni() {
  static const bool found = [] {
    const char* wanted = std::getenv("UNDERTOW_ISA");
    return __builtin_cpu_supports("avx512vnni") && !(wanted && !std::strcmp(wanted, "avx512"));
  }();
  return found;
}
#endif

const Streaming* streaming() {
  const Kernels* chosen = kernels();
#ifdef UNDERTOW_AVX512
  if (chosen && !std::strncmp(chosen->name, "avx512", 6)) return &avx512_streaming;
#endif
#ifdef UNDERTOW_AVX2
  if (chosen && !std::strcmp(chosen->name, "avx2")) return &avx2_streaming;
#endif
  return chosen ? &baseline_streaming : nullptr;
}

}  // namespace undertow
