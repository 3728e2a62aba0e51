// The parts of a call from Python: tuples of arrays, and the attributes of what is added to the equations.
#pragma once
#include "checks.h"

namespace undertow {
namespace {

// The items of a tuple or list. None has no items, and past the last every item is None.
class Items {
 public:
  Items(const char* name, nb::handle given) : name(name), none(given.is_none()) {
    if (PyTuple_Check(given.ptr())) tuple = nb::borrow(given);
    else if (PyList_Check(given.ptr())) tuple = nb::steal(PyList_AsTuple(given.ptr()));  // nobody changes a tuple
    else if (!none) refuse_type(name, type_of(given), "a tuple or list of arrays");
  }
  idx size() const { return none ? 0 : NB_TUPLE_GET_SIZE(tuple.ptr()); }
  nb::handle operator[](idx i) const {
    return i < size() ? nb::handle(NB_TUPLE_GET_ITEM(tuple.ptr(), i)) : nb::handle(Py_None);
  }
  explicit operator bool() const { return !none; }

  void expect(idx count) const {
    if (none) refuse_type(name, "None", std::to_string(count) + " arrays");
    if (size() != count) refuse(name, std::to_string(size()), std::to_string(count) + " arrays");
  }
  void expect_or_none(idx count) const {
    if (!none) expect(count);
  }
  void expect_at_least(idx count) const {
    if (none) refuse_type(name, "None", "at least " + std::to_string(count) + " arrays");
    if (size() < count) refuse(name, std::to_string(size()), "at least " + std::to_string(count) + " arrays");
  }

 private:
  const char* name;
  const bool none;
  nb::object tuple;
};

// An attribute's name: Python's string is made once.
template <class Of>
struct Attribute {
  nb::object Of::* place;
  const char* text;
  PyObject* name;
  Attribute(nb::object Of::* place, const char* name)
      : place(place), text(name), name(PyUnicode_InternFromString(name)) {}
};

// Reads each of these attributes into its place. Says whether any is something else than None or False.
template <class Of, std::size_t count>
bool read_attributes(const char* name, nb::handle from, Of& to, const Attribute<Of> (&attributes)[count]) {
  bool any = false;
  for (const Attribute<Of>& each : attributes) {
    PyObject* value = PyObject_GetAttr(from.ptr(), each.name);
    if (!value) {
      if (!PyErr_ExceptionMatches(PyExc_AttributeError)) nb::raise_python_error();
      PyErr_Clear();
      refuse_type(name, type_of(from), std::string("an object with the attribute ") + each.text);
    }
    to.*each.place = nb::steal(value);
    any |= value != Py_None && value != Py_False;
  }
  return any;
}

// What is added to the equations, of one direction: see Variant in lstm.h.
struct Options {
  nb::object mask, reset, reset_h, reset_c, recurrent, zoneout_h, zoneout_c, peepholes, coupled, gain_x, gain_h, gain_c,
      bias_c;
  bool any = false;

  explicit Options(nb::handle given) {
    if (given.is_none()) return;
    using O = Options;
    static const Attribute<O> attributes[] = {
        {&O::mask, "mask"},           {&O::reset, "reset"},         {&O::reset_h, "reset_h"},
        {&O::reset_c, "reset_c"},     {&O::recurrent, "recurrent"}, {&O::zoneout_h, "zoneout_h"},
        {&O::zoneout_c, "zoneout_c"}, {&O::peepholes, "peepholes"}, {&O::coupled, "coupled"},
        {&O::gain_x, "gain_x"},       {&O::gain_h, "gain_h"},       {&O::gain_c, "gain_c"},
        {&O::bias_c, "bias_c"},
    };
    any = read_attributes("options", given, *this, attributes);
  }
};

// Where the gradients of what is added and trained are to be written.
struct OptionGradients {
  nb::object reset_h, reset_c, peepholes, gain_x, gain_h, gain_c, bias_c;
  bool any = false;

  explicit OptionGradients(nb::handle given) {
    if (given.is_none()) return;
    using O = OptionGradients;
    static const Attribute<O> attributes[] = {
        {&O::reset_h, "reset_h"}, {&O::reset_c, "reset_c"}, {&O::peepholes, "peepholes"}, {&O::gain_x, "gain_x"},
        {&O::gain_h, "gain_h"},   {&O::gain_c, "gain_c"},   {&O::bias_c, "bias_c"},
    };
    any = read_attributes("doptions", given, *this, attributes);
  }
};

}  // namespace
}  // namespace undertow
