// What Python gives, checked: dtype, device, shape and strides of arrays, and the tables of sequences' lengths. Every
// refusal names the argument, what was given and what was expected.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "array.h"
#include "lstm.h"

namespace undertow {
namespace {

using OptionalIn = std::optional<In>;
using OptionalOut = std::optional<Out>;

std::string shape_text(const std::vector<idx>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

template <class Array>
std::vector<idx> shape_of(const Array& a) {
  std::vector<idx> shape;
  for (idx i = 0; i < a.ndim(); ++i) shape.push_back(a.shape(i));
  return shape;
}

[[noreturn]] void refuse(const char* name, const std::string& given, const std::string& expected) {
  throw nb::value_error((std::string(name) + ": expected " + expected + ", got " + given).c_str());
}

std::string dtype_text(nb::dlpack::dtype d) {
  using Code = nb::dlpack::dtype_code;
  const char* kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  const bool known = d.code <= static_cast<std::uint8_t>(Code::Bool);
  return (known ? kinds[d.code] : "dtype") + std::to_string(d.bits);
}

template <class T>
nb::dlpack::dtype dtype_of() {
  if constexpr (std::is_same_v<T, bf16>) return {static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
  else return nb::dtype<T>();
}

template <class Array>
void check_usable(const char* name, const Array& a) {
  if (!a.usable())
    throw nb::type_error((std::string(name) + ": expected an array on the CPU in native byte order" +
                          (std::is_same_v<Array, Out> ? ", writable" : "") + ", got " + a.type())
                             .c_str());
}

template <class T, class Array>
void check(const char* name, const Array& a, const std::vector<idx>& shape) {
  check_usable(name, a);
  if (a.dtype() != dtype_of<T>())
    throw nb::type_error(
        (std::string(name) + ": expected dtype " + dtype_text(dtype_of<T>()) + ", got " + dtype_text(a.dtype())).c_str());
  if (shape_of(a) != shape) refuse(name, "shape " + shape_text(shape_of(a)), "shape " + shape_text(shape));
  if (a.size() && reinterpret_cast<std::uintptr_t>(a.template data<const char>()) % alignof(T))
    refuse(name, "an address between two", "elements aligned to their size");
}

template <class T, class Array>
auto contiguous(const char* name, const Array& a, const std::vector<idx>& shape) {
  check<T>(name, a, shape);
  idx stride = 1;
  for (idx i = a.ndim(); i-- > 0; stride *= shape[i])
    if (a.size() && shape[i] > 1 && a.stride(i) != stride) refuse(name, "a strided one", "a contiguous array");
  return a.template data<std::conditional_t<std::is_same_v<Array, In>, const T, T>>();
}

template <class T, class Array>
auto contiguous(const char* name, const std::optional<Array>& a, const std::vector<idx>& shape) {
  using P = decltype(contiguous<T>(name, *a, shape));
  return a ? contiguous<T>(name, *a, shape) : P(nullptr);
}

// Sequences of different lengths, ranked: the tables that lstm.h asks for. Empty where nothing is said of lengths.
struct Tables {
  std::vector<std::int64_t> batch_sizes, starts, order;
  bool packed = false;

  bool ragged() const { return !starts.empty(); }
  idx rows() const { return static_cast<idx>(starts.back()); }

  // starts, from batch_sizes
  void count() {
    starts.assign(1, 0);
    for (std::int64_t n : batch_sizes) starts.push_back(starts.back() + n);
  }

  // of padded sequences, in any order
  void rank(const std::int64_t* lengths, idx steps, idx batch) {
    order.resize(static_cast<std::size_t>(batch));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return lengths[a] > lengths[b]; });
    batch_sizes.resize(static_cast<std::size_t>(steps));
    idx active = batch;
    for (idx t = 0; t < steps; ++t) {
      while (active > 0 && lengths[order[static_cast<std::size_t>(active - 1)]] <= t) --active;
      batch_sizes[static_cast<std::size_t>(t)] = active;
    }
    count();
  }
};

// [N,H], or [1,N,H] as a module of one layer and direction has its states.
template <class T, class Array>
auto state(const char* name, const std::optional<Array>& a, idx batch, idx hidden) {
  const bool stacked = a && a->ndim() == 3;
  return contiguous<T>(name, a, stacked ? std::vector<idx>{1, batch, hidden} : std::vector<idx>{batch, hidden});
}

template <class P>
Sequence<P> along(const Tables& tables, P* data, idx step, idx row) {
  const bool padded = !tables.packed && !tables.order.empty();
  return {data, step, row, padded ? tables.order.data() : nullptr, tables.packed ? tables.starts.data() : nullptr};
}

// A row of features for each step and sequence: [T,N,features], or [R,features] where packed.
template <class P, class Array>
Sequence<P> sequence(const char* name, const Array& a, const Problem<std::remove_const_t<P>>& p, const Tables& tables,
                     idx features) {
  const idx last = tables.packed ? 1 : 2;
  check<std::remove_const_t<P>>(
      name, a, tables.packed ? std::vector<idx>{tables.rows(), features} : std::vector<idx>{p.steps, p.batch, features});
  if (a.size() && features > 1 && a.stride(last) != 1) refuse(name, "another stride", "stride 1 in the last dimension");
  return along(tables, a.template data<P>(), tables.packed ? 0 : a.stride(0), a.stride(last - 1));
}

template <class P, class Array>
Sequence<P> given_sequence(const char* name, const std::optional<Array>& a, const Problem<std::remove_const_t<P>>& p,
                           const Tables& tables, idx features) {
  return a ? sequence<P>(name, *a, p, tables, features) : along<P>(tables, nullptr, 0, 0);
}

// The shape of an array with a row for each step and sequence, in the tape's order.
template <class T>
std::vector<idx> tape_shape(const Problem<T>& p, const Tables& tables, std::initializer_list<idx> row) {
  std::vector<idx> shape{p.steps, p.batch};
  if (tables.ragged()) shape = {tables.rows()};
  shape.insert(shape.end(), row);
  return shape;
}

void read_lengths(Tables& tables, const In& lengths, idx steps, idx batch) {
  const auto* p = contiguous<std::int64_t>("lengths", lengths, {batch});
  for (idx n = 0; n < batch; ++n)
    if (p[n] < 0 || p[n] > steps)
      refuse("lengths", std::to_string(p[n]) + " for sequence " + std::to_string(n),
             "values between 0 and T = " + std::to_string(steps));
  tables.rank(p, steps, batch);
}

void read_packing(Tables& tables, const In& batch_sizes, const OptionalIn& order) {
  check_usable("batch_sizes", batch_sizes);
  if (batch_sizes.ndim() != 1) refuse("batch_sizes", "shape " + shape_text(shape_of(batch_sizes)), "shape [T]");
  const idx steps = batch_sizes.shape(0);
  const auto* p = contiguous<std::int64_t>("batch_sizes", batch_sizes, {steps});
  for (idx t = 0; t < steps; ++t)
    if (p[t] < 0 || p[t] > (t ? p[t - 1] : std::int64_t{1} << 40))
      refuse("batch_sizes", std::to_string(p[t]) + " at step " + std::to_string(t), "non-increasing values from N to 0");
  tables.packed = true;
  tables.batch_sizes.assign(p, p + steps);
  tables.count();
  if (!order) return;
  const idx batch = steps ? static_cast<idx>(p[0]) : 0;
  const auto* o = contiguous<std::int64_t>("order", *order, {batch});
  std::vector<bool> seen(static_cast<std::size_t>(batch));
  for (idx n = 0; n < batch; ++n) {
    if (o[n] < 0 || o[n] >= batch || seen[static_cast<std::size_t>(o[n])])
      refuse("order", std::to_string(o[n]) + " at " + std::to_string(n),
             "each of 0 to N - 1 once, N = " + std::to_string(batch));
    seen[static_cast<std::size_t>(o[n])] = true;
  }
  tables.order.assign(o, o + batch);
}

Cell cell_of(const std::string& name) {
  if (name == "lstm") return Cell::lstm;
  if (name == "rnn") return Cell::rnn;
  refuse("cell", "'" + name + "'", "'lstm' or 'rnn'");
}

const Kernels& usable_kernels() {
  const Kernels* found = kernels();
  if (!found)
    throw nb::value_error("UNDERTOW_ISA: expected a level that this processor runs, of baseline, avx2, avx512, avx512bf16");
  return *found;
}

[[noreturn]] void refuse_dtype(const In& x, const char* expected) {
  throw nb::type_error((std::string("x: expected dtype ") + expected + ", got " + dtype_text(x.dtype())).c_str());
}

// Calls as(T()) with x's type.
template <class F>
void with_dtype(const In& x, F&& as) {
  check_usable("x", x);
  if (x.dtype() == nb::dtype<float>()) return as(float());
  if (x.dtype() == nb::dtype<double>()) return as(double());
  if (x.dtype() == dtype_of<bf16>()) return as(bf16());
  refuse_dtype(x, "float32, float64 or bfloat16");
}

}  // namespace
}  // namespace undertow
