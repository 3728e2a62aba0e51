// A head's call from Python: the problem of head.h, described and run.
#pragma once
#include "arguments.h"
#include "head.h"

namespace undertow {
namespace {

// y [T,N,F/2], of which the features are made, or the features [N,F] themselves.
template <class T>
void describe_features(Head<T>& h, Call& call, nb::handle hidden, nb::handle features, nb::handle kept) {
  const Out given(features, call.held);
  check_usable("features", given);
  if (given.ndim() != 2) refuse("features", shape_of(given), "shape [N, F]");
  h.batch = given.shape(0), h.features = given.shape(1), h.steps = 0;
  h.given = contiguous<T>("features", given, {h.batch, h.features});
  h.kept = optional<const T>(call, "kept", kept, {h.batch, h.features});
  h.hidden = nullptr;
  if (absent(hidden)) return;
  const In y(hidden, call.held);
  check_usable("hidden", y);
  if (y.ndim() != 3 || y.shape(0) < 1 || h.features % 2) refuse("hidden", shape_of(y), "shape [T, N, F/2], T >= 1");
  h.steps = y.shape(0);
  h.hidden = contiguous<const T>("hidden", y, {h.steps, h.batch, h.features / 2});
}

// last, size, moves and the linear part of a forecast.
template <class T>
void describe_window(Head<T>& h, Call& call, const Items& window) {
  h.targets = 0, h.last = h.size = h.moves = h.linear = nullptr;
  window.expect_or_none(4);
  if (!window) return;
  if (h.hidden) refuse("window", "4 arrays", "None with hidden");
  const In moves(window[2], call.held);
  check_usable("moves", moves);
  if (moves.ndim() != 3 || moves.shape(2) < 1 || h.outputs % moves.shape(2))
    refuse("moves", shape_of(moves), "shape [T, N, K], K a divisor of O");
  h.steps = moves.shape(0), h.targets = moves.shape(2), h.step = moves.stride(0), h.row = moves.stride(1);
  check<const T>("moves", moves, {h.steps, h.batch, h.targets});
  if (h.targets > 1 && moves.stride(2) != 1) refuse_memory<const T>("moves", "another stride", "stride 1 in the last dimension");
  h.moves = moves.template data<const T>();
  h.last = contiguous<const T>(call, "last", window[0], {h.batch, h.targets});
  h.size = contiguous<const T>(call, "size", window[1], {h.batch, h.targets});
  h.linear = contiguous<const T>(call, "linear", window[3], {h.targets, h.outputs / h.targets, h.steps});
}

// target, and the unit [O] or [N,O] of numbers, or the weights of classes [O] and the number of no class.
template <class T>
void describe_target(Head<T>& h, Call& call, nb::handle target, nb::handle unit, std::int64_t unscored) {
  const In y(target, call.held);
  check_usable("target", y);
  h.numbers = h.unit = h.class_weights = nullptr, h.classes = nullptr, h.unit_row = 0, h.unscored = unscored;
  if (y.dtype() == nb::dtype<std::int64_t>()) {
    h.classes = contiguous<const std::int64_t>("target", y, {h.batch});
    for (idx n = 0; n < h.batch; ++n)
      if (h.classes[n] != unscored && (h.classes[n] < 0 || h.classes[n] >= h.outputs))
        refuse("target", "class " + std::to_string(h.classes[n]), "classes from 0 to " + std::to_string(h.outputs - 1));
    h.class_weights = optional<const T>(call, "unit", unit, {h.outputs});
    return;
  }
  h.numbers = contiguous<const T>("target", y, {h.batch, h.outputs});
  const In of(unit, call.held);
  check_usable("unit", of);
  h.unit_row = of.ndim() == 2 ? h.outputs : 0;
  h.unit = contiguous<const T>("unit", of, of.ndim() == 2 ? Shape{h.batch, h.outputs} : Shape{h.outputs});
}

template <class T>
nb::tuple run_head_of(nb::handle hidden, nb::handle features, nb::handle kept, nb::handle weights, nb::handle window,
               nb::handle target, nb::handle unit, std::int64_t unscored, nb::handle output, nb::handle gradients) {
  Head<T> h;
  Call call;
  const Items of_head("weights", weights), of_window("window", window), d("gradients", gradients);
  of_head.expect(2);
  describe_features(h, call, hidden, features, kept);
  const In weight(of_head[0], call.held);
  check_usable("weight", weight);
  if (weight.ndim() != 2 || weight.shape(0) < 1) refuse("weight", shape_of(weight), "shape [O, F], O >= 1");
  h.outputs = weight.shape(0);
  h.weight = contiguous<const T>("weight", weight, {h.outputs, h.features});
  h.bias = contiguous<const T>(call, "bias", of_head[1], {h.outputs});
  describe_window(h, call, of_window);
  describe_target(h, call, target, unit, unscored);
  h.output = contiguous<T>(call, "output", output, {h.batch, h.outputs});
  d.expect_or_none(5);
  h.dhidden = h.dgiven = h.dweight = h.dbias = h.dlinear = nullptr;
  if (d) {
    h.dgiven = contiguous<T>(call, "dfeatures", d[1], {h.batch, h.features});
    h.dweight = contiguous<T>(call, "dweight", d[2], {h.outputs, h.features});
    h.dbias = contiguous<T>(call, "dbias", d[3], {h.outputs});
    if (h.hidden) h.dhidden = contiguous<T>(call, "dhidden", d[0], {h.steps, h.batch, h.features / 2});
    if (h.targets) h.dlinear = contiguous<T>(call, "dlinear", d[4], {h.targets, h.outputs / h.targets, h.steps});
  }
  const Found<T> found = [&] {
    nb::gil_scoped_release unlocked;
    return head(h);
  }();
  return nb::make_tuple(static_cast<double>(found.loss), found.scored, found.right);
}

nb::tuple run_head(nb::handle hidden, nb::handle features, nb::handle kept, nb::handle weights, nb::handle window,
                nb::handle target, nb::handle unit, std::int64_t unscored, nb::handle output, nb::handle gradients) {
  Held held;
  const In given(features, held);
  check_usable("features", given);
  const auto run = given.dtype() == nb::dtype<double>() ? run_head_of<double> : run_head_of<float>;
  return run(hidden, features, kept, weights, window, target, unit, unscored, output, gradients);
}

}  // namespace
}  // namespace undertow
