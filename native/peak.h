// The most multiply-adds that this level's vectors can do: what the kernels' own speed is measured against.
#pragma once
#include "simd.h"

namespace undertow {
namespace {

// Sums under way at once, all in registers: more than any processor's multiply-adds keep waiting for their results.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int rows_of_sums = 6;  // of 4: 24 of 32 registers
#else
constexpr int rows_of_sums = 3;  // 12 of 16
#endif

// sum = sum * factor + term, `rounds` times for each sum. Returns the flops.
double multiply_adds(idx rounds) {
  // Volatile: what the compiler knew it would compute beforehand. Sums go towards 2: no infinity, no denormal.
  volatile float half = 0.5f, one = 1.0f;
  const Vec<float> factor = Vec<float>{} + half, term = Vec<float>{} + one;
  Vec<float> sums[rows_of_sums][4];
  for (int i = 0; i < rows_of_sums; ++i)
    for (int j = 0; j < 4; ++j) sums[i][j] = term * static_cast<float>(4 * i + j);
  for (idx round = 0; round < rounds; ++round)
    for (int i = 0; i < rows_of_sums; ++i)
      for (int j = 0; j < 4; ++j) sums[i][j] = sums[i][j] * factor + term;
  volatile float used = 0;  // and what nobody reads it would not compute at all
  for (int i = 0; i < rows_of_sums; ++i)
    for (int j = 0; j < 4; ++j) used = used + sums[i][j][0];
  return 2.0 * static_cast<double>(rounds) * rows_of_sums * 4 * lanes<float>;
}

}  // namespace
}  // namespace undertow
