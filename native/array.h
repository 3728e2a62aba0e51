// An array from Python: NumPy, torch or anything else that speaks DLPack, on the CPU, never copied.
//
// A type that offers DLPack's exchange table (torch >= 2.10) is read through it in a few nanoseconds; all else
// goes through nanobind's ndarray, at 0.2 us (NumPy) to 2 us (older torch) an array. With a dozen arrays a
// call that decides how fast a single step can be.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <string>
#include <vector>

namespace undertow {

namespace nb = nanobind;

// DLPack's exchange table, as dlpack.h 1.3 lays it out, up to the one function used here.
struct ExchangeTable {
  std::uint32_t major, minor;
  void* previous;
  void *allocate, *to_managed, *from_managed;
  int (*view)(void* object, nb::dlpack::dltensor* out);  // borrowed; -1 with a Python exception set
};

// The table of this type, or null. The last few types are remembered: looking the attribute up costs more.
inline const ExchangeTable* exchange_table(PyTypeObject* type) {
  struct Entry {
    PyTypeObject* type;
    const ExchangeTable* table;
  };
  thread_local Entry known[4] = {};
  thread_local unsigned next = 0;
  for (const Entry& entry : known)
    if (entry.type == type) return entry.table;
  const ExchangeTable* table = nullptr;
  PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule) table = static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  PyErr_Clear();
  Py_XDECREF(capsule);
  if (table && table->major != 1) table = nullptr;
  Py_INCREF(reinterpret_cast<PyObject*>(type));  // its address must not be another type's later
  known[next++ % 4] = {type, table};
  return table;
}

// The name of an object's type, for messages.
inline std::string type_of(nb::handle object) { return nb::inst_name(object).c_str(); }

// The arrays that nanobind read for a call. They must outlive the kernel's run.
using Held = std::vector<nb::ndarray<nb::ro>>;

template <bool writable>
class Array {
 public:
  // Always succeeds. The checks refuse an unusable array later, by its name.
  Array(nb::handle object, Held& held) : object_(object) {
    if (const ExchangeTable* table = exchange_table(Py_TYPE(object.ptr()))) {
      if (table->view(object.ptr(), &view_) == 0) {
        // a tensor can be on the CPU and yet hold nothing, as torch's fake tensors do
        usable_ = view_.device.device_type == nb::device::cpu::value && view_.strides && (view_.data || !size());
        return;
      }
      PyErr_Clear();
    }
    NdArray array;
    usable_ = !object.is_none() && nb::try_cast<NdArray>(object, array, false);
    if (!usable_) {
      PyErr_Clear();
      return;
    }
    view_ = {const_cast<void*>(static_cast<const void*>(array.data())), {}, static_cast<std::int32_t>(array.ndim()),
             array.dtype(), const_cast<std::int64_t*>(array.shape_ptr()),
             const_cast<std::int64_t*>(array.stride_ptr()), 0};
    held.emplace_back(array);
  }

  bool usable() const { return usable_; }
  std::string type() const { return type_of(object_); }
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<char*>(view_.data) + view_.byte_offset);
  }
  nb::dlpack::dtype dtype() const { return view_.dtype; }
  std::ptrdiff_t ndim() const { return view_.ndim; }
  std::ptrdiff_t shape(std::ptrdiff_t i) const { return view_.shape[i]; }
  std::ptrdiff_t stride(std::ptrdiff_t i) const { return view_.strides[i]; }
  std::ptrdiff_t size() const {
    std::ptrdiff_t n = 1;
    for (std::ptrdiff_t i = 0; i < ndim(); ++i) n *= shape(i);
    return n;
  }

 private:
  using NdArray =
      std::conditional_t<writable, nb::ndarray<nb::device::cpu>, nb::ndarray<nb::ro, nb::device::cpu>>;
  bool usable_ = false;
  nb::handle object_;  // the caller's, for as long as its call
  nb::dlpack::dltensor view_;
};

using In = Array<false>;
using Out = Array<true>;

}  // namespace undertow
