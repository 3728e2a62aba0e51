// What Python gives, checked: dtype, device, shape and strides of arrays. Every refusal names the argument, what was given
// and what was expected.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "array.h"
#include "lstm.h"
#include "ragged.h"

namespace undertow {
namespace {

// What the checks of one call gather, for as long as its kernel runs.
struct Call {
  Held held;
  Tables tables;
};

// The P of an array that is only read is const.
template <class P>
using ArrayOf = Array<!std::is_const_v<P>>;

struct Shape {
  idx ndim = 0, extent[5] = {};
  Shape(std::initializer_list<idx> given) {
    for (idx n : given) extent[ndim++] = n;
  }
  bool operator==(const Shape&) const = default;
};

template <class Extent>
std::string shape_text(idx ndim, Extent&& extent) {
  std::string text = "shape [";
  for (idx i = 0; i < ndim; ++i) text += (i ? ", " : "") + std::to_string(extent(i));
  return text + "]";
}
std::string text_of(const Shape& shape) {
  return shape_text(shape.ndim, [&](idx i) { return shape.extent[i]; });
}
template <bool writable>
std::string shape_of(const Array<writable>& a) {
  return shape_text(a.ndim(), [&](idx i) { return a.shape(i); });
}

std::string expected_text(const char* name, const std::string& given, const std::string& expected) {
  return std::string(name) + ": expected " + expected + ", got " + given;
}
[[noreturn]] void refuse(const char* name, const std::string& given, const std::string& expected) {
  throw nb::value_error(expected_text(name, given, expected).c_str());
}
[[noreturn]] void refuse_type(const char* name, const std::string& given, const std::string& expected) {
  throw nb::type_error(expected_text(name, given, expected).c_str());
}

// An array to read has the right shape and dtype, but its elements are strided, or at addresses that are no multiples
// of their size. The caller may copy the array and call again.
struct Scattered : std::runtime_error {
  using std::runtime_error::runtime_error;
};

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

template <class P>
[[noreturn]] void refuse_memory(const char* name, const char* given, const char* expected) {
  if (!std::is_const_v<P>) refuse(name, given, expected);
  throw Scattered(expected_text(name, given, expected));
}

template <bool writable>
void check_usable(const char* name, const Array<writable>& a) {
  if (!a.usable())
    refuse_type(name, a.type(), std::string("an array on the CPU in native byte order") + (writable ? ", writable" : ""));
}

template <class P>
void check(const char* name, const ArrayOf<P>& a, const Shape& shape) {
  using T = std::remove_const_t<P>;
  check_usable(name, a);
  if (a.dtype() != dtype_of<T>())
    refuse_type(name, dtype_text(a.dtype()), "dtype " + dtype_text(dtype_of<T>()));
  bool same = a.ndim() == shape.ndim;
  for (idx i = 0; same && i < shape.ndim; ++i) same = a.shape(i) == shape.extent[i];
  if (!same) refuse(name, shape_of(a), text_of(shape));
  if (a.size() && reinterpret_cast<std::uintptr_t>(a.template data<const char>()) % alignof(T))
    refuse_memory<P>(name, "an address between two", "elements aligned to their size");
}

template <class P>
P* contiguous(const char* name, const ArrayOf<P>& a, const Shape& shape) {
  check<P>(name, a, shape);
  idx stride = 1;
  for (idx i = a.ndim(); i-- > 0; stride *= shape.extent[i])
    if (a.size() && shape.extent[i] > 1 && a.stride(i) != stride) refuse_memory<P>(name, "a strided one", "a contiguous array");
  return a.template data<P>();
}

template <class P>
P* contiguous(Call& call, const char* name, nb::handle object, const Shape& shape) {
  return contiguous<P>(name, ArrayOf<P>(object, call.held), shape);
}

// Whether Python gave nothing: None, or the attribute of no object.
bool absent(nb::handle object) { return !object.is_valid() || object.is_none(); }

// The same of an argument that may be absent, which gives null.
template <class P>
P* optional(Call& call, const char* name, nb::handle object, const Shape& shape) {
  return absent(object) ? nullptr : contiguous<P>(call, name, object, shape);
}

// [N,H], or [1,N,H] as a module of one layer and direction has its states; or absent.
template <class P>
P* state(Call& call, const char* name, nb::handle object, idx batch, idx hidden) {
  if (absent(object)) return nullptr;
  const ArrayOf<P> a(object, call.held);
  check_usable(name, a);
  return contiguous<P>(name, a, a.ndim() == 3 ? Shape{1, batch, hidden} : Shape{batch, hidden});
}

// A row of features for each step and sequence: [T,N,features], or [R,features] where packed.
template <class P>
Sequence<P> sequence(const char* name, const ArrayOf<P>& a, const Problem<std::remove_const_t<P>>& p,
                     const Tables& tables, idx features) {
  const idx last = tables.packed ? 1 : 2;
  check<P>(name, a, tables.packed ? Shape{tables.rows(), features} : Shape{p.steps, p.batch, features});
  if (a.size() && features > 1 && a.stride(last) != 1)
    refuse_memory<P>(name, "another stride", "stride 1 in the last dimension");
  return along(tables, a.template data<P>(), tables.packed ? 0 : a.stride(0), a.stride(last - 1));
}

template <class P>
Sequence<P> sequence(Call& call, const char* name, nb::handle object, const Problem<std::remove_const_t<P>>& p,
                     idx features) {
  return sequence<P>(name, ArrayOf<P>(object, call.held), p, call.tables, features);
}

template <class P>
Sequence<P> optional_sequence(Call& call, const char* name, nb::handle object,
                              const Problem<std::remove_const_t<P>>& p, idx features) {
  return absent(object) ? along<P>(call.tables, nullptr, 0, 0) : sequence<P>(call, name, object, p, features);
}

// A mark for each step and sequence, which packed rows have not.
template <class T>
const std::uint8_t* marks(Call& call, const char* name, nb::handle object, const Problem<T>& p) {
  if (absent(object)) return nullptr;
  if (call.tables.packed) refuse(name, "an array", "None with batch_sizes");
  return reinterpret_cast<const std::uint8_t*>(contiguous<const bool>(call, name, object, {p.steps, p.batch}));
}

// The shape of an array with a row for each step and sequence, in the tape's order.
template <class T>
Shape tape_shape(const Problem<T>& p, const Tables& tables, std::initializer_list<idx> row) {
  Shape shape = tables.ragged() ? Shape{tables.rows()} : Shape{p.steps, p.batch};
  for (idx n : row) shape.extent[shape.ndim++] = n;
  return shape;
}

void read_lengths(Call& call, nb::handle object, idx steps, idx batch) {
  const auto* lengths = contiguous<const std::int64_t>(call, "lengths", object, {batch});
  for (idx n = 0; n < batch; ++n)
    if (lengths[n] < 0 || lengths[n] > steps)
      refuse("lengths", std::to_string(lengths[n]) + " for sequence " + std::to_string(n),
             "values between 0 and T = " + std::to_string(steps));
  call.tables.rank(lengths, steps, batch);
}

void read_packing(Call& call, nb::handle batch_sizes, nb::handle order) {
  const In sizes(batch_sizes, call.held);
  check_usable("batch_sizes", sizes);
  if (sizes.ndim() != 1) refuse("batch_sizes", shape_of(sizes), "shape [T]");
  const idx steps = sizes.shape(0);
  const auto* p = contiguous<const std::int64_t>("batch_sizes", sizes, {steps});
  for (idx t = 0; t < steps; ++t)
    if (p[t] < 0 || p[t] > (t ? p[t - 1] : std::int64_t{1} << 40))
      refuse("batch_sizes", std::to_string(p[t]) + " at step " + std::to_string(t), "non-increasing values from N to 0");
  call.tables.packed = true;
  call.tables.batch_sizes.assign(p, p + steps);
  call.tables.count();
  if (absent(order)) return;
  const idx batch = steps ? static_cast<idx>(p[0]) : 0;
  const auto* o = contiguous<const std::int64_t>(call, "order", order, {batch});
  std::vector<bool> seen(static_cast<std::size_t>(batch));
  for (idx n = 0; n < batch; ++n) {
    if (o[n] < 0 || o[n] >= batch || seen[static_cast<std::size_t>(o[n])])
      refuse("order", std::to_string(o[n]) + " at " + std::to_string(n),
             "each of 0 to N - 1 once, N = " + std::to_string(batch));
    seen[static_cast<std::size_t>(o[n])] = true;
  }
  call.tables.order.assign(o, o + batch);
}

const Kernels& usable_kernels() {
  const Kernels* found = kernels();
  if (!found)
    throw nb::value_error(
        "UNDERTOW_ISA: expected a level that was built and that this processor runs, of baseline, avx2, avx512, avx512bf16");
  return *found;
}

[[noreturn]] void refuse_dtype(const In& x, const char* expected) {
  refuse_type("x", dtype_text(x.dtype()), std::string("dtype ") + expected);
}

}  // namespace
}  // namespace undertow
