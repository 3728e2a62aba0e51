#include "head.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace undertow {
namespace {

template <class T>
T dot(const T* a, const T* b, idx n) {
  constexpr idx lanes = 32 / sizeof(T);
  typedef T Lanes __attribute__((vector_size(32)));
  Lanes sums = {};
  idx k = 0;
  for (; k + lanes <= n; k += lanes) {
    Lanes x, y;
    std::memcpy(&x, a + k, sizeof x);
    std::memcpy(&y, b + k, sizeof y);
    sums += x * y;
  }
  T sum = 0;
  for (idx j = 0; j < lanes; ++j) sum += sums[j];
  for (; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

// to += factor * from
template <class T>
void add(T* to, T factor, const T* from, idx n) {
  for (idx k = 0; k < n; ++k) to[k] += factor * from[k];
}

// Mean and largest of each state over the steps, [N,2D], and how many steps are the largest, [N,D].
template <class T>
void pool(const Head<T>& h, std::vector<T>& count) {
  const idx D = h.features / 2, row = h.batch * D;
  std::vector<T> sum(static_cast<std::size_t>(row)), most(h.hidden, h.hidden + row);
  count.assign(static_cast<std::size_t>(row), T(0));
  for (idx t = 0; t < h.steps; ++t) {
    const T* y = h.hidden + t * row;
    for (idx k = 0; k < row; ++k) {
      sum[k] += y[k];
      count[k] = y[k] > most[k] ? T(1) : count[k] + (y[k] == most[k] ? T(1) : T(0));
      most[k] = y[k] > most[k] ? y[k] : most[k];
    }
  }
  for (idx n = 0; n < h.batch; ++n) {
    T* to = h.given + n * h.features;
    for (idx k = 0; k < D; ++k) to[k] = sum[n * D + k] / static_cast<T>(h.steps);
    std::copy_n(most.data() + n * D, D, to + D);
  }
}

// The gradient of the states, from that of the features: steps that are the largest have equal shares.
template <class T>
void spread(const Head<T>& h, const std::vector<T>& count) {
  const idx D = h.features / 2, row = h.batch * D;
  std::vector<T> of_mean(static_cast<std::size_t>(row)), of_most(of_mean), most(of_mean);
  for (idx n = 0; n < h.batch; ++n)
    for (idx k = 0; k < D; ++k) {
      const T* d = h.dgiven + n * h.features;
      of_mean[n * D + k] = d[k] / static_cast<T>(h.steps);
      of_most[n * D + k] = d[D + k] / count[n * D + k];
      most[n * D + k] = h.given[n * h.features + D + k];
    }
  for (idx t = 0; t < h.steps; ++t) {
    const T* y = h.hidden + t * row;
    T* to = h.dhidden + t * row;
    for (idx k = 0; k < row; ++k) {
      const T share = of_most[k];  // read in any case, so that the loop is one of vectors
      to[k] = of_mean[k] + (y[k] == most[k] ? share : T(0));
    }
  }
}

// Calls f(k, moves) for each target of a sequence, with its moves side by side.
template <class T, class F>
void each_target(const Head<T>& h, idx n, std::vector<T>& moves, F&& f) {
  moves.resize(static_cast<std::size_t>(h.steps));
  for (idx k = 0; k < h.targets; ++k) {
    for (idx t = 0; t < h.steps; ++t) moves[t] = h.moves[t * h.step + n * h.row + k];
    f(k, moves.data());
  }
}

template <class T>
void predict(const Head<T>& h, const T* features) {
  const idx O = h.outputs, K = h.targets;
  std::vector<T> room;
  for (idx n = 0; n < h.batch; ++n) {
    T* to = h.output + n * O;
    for (idx o = 0; o < O; ++o) to[o] = h.bias[o] + dot(features + n * h.features, h.weight + o * h.features, h.features);
    each_target(h, n, room, [&](idx k, const T* moves) {
      const T last = h.last[n * K + k], size = h.size[n * K + k];
      const T* linear = h.linear + k * (O / K) * h.steps;
      for (idx o = k; o < O; o += K, linear += h.steps) to[o] = last + size * (to[o] + dot(linear, moves, h.steps));
    });
  }
}

// The loss of numbers; slope: its gradient with respect to the output.
template <class T>
Found<T> squares(const Head<T>& h, T* slope) {
  const idx O = h.outputs;
  double sum = 0;
  idx known = 0;
  for (idx n = 0; n < h.batch; ++n)
    for (idx o = 0; o < O; ++o) {
      const idx at = n * O + o;
      const T unit = h.unit[n * h.unit_row + o], target = h.numbers[at];
      const bool is_known = !std::isnan(target);
      const T error = is_known ? (h.output[at] - target) / unit : T(0);
      known += is_known;
      sum += double(error) * error;
      slope[at] = 2 * error / unit;
    }
  const T count = static_cast<T>(std::max<idx>(known, 1));
  for (idx at = 0; at < h.batch * O; ++at) slope[at] /= count;
  return {static_cast<T>(sum / count), known, 0};
}

// The same of classes.
template <class T>
Found<T> cross_entropy(const Head<T>& h, T* slope) {
  const idx O = h.outputs;
  double sum = 0, total = 0;
  idx scored = 0, right = 0;
  for (idx n = 0; n < h.batch; ++n) {
    T* to = slope + n * O;
    const T* score = h.output + n * O;
    const std::int64_t target = h.classes[n];
    if (target == h.unscored) {
      std::fill_n(to, O, T(0));
      continue;
    }
    const T weight = h.class_weights ? h.class_weights[target] : T(1);
    const T* best = std::max_element(score, score + O);
    const T most = *best;
    ++scored, right += best - score == target;
    T exponentials = 0;
    for (idx o = 0; o < O; ++o) exponentials += to[o] = std::exp(score[o] - most);
    for (idx o = 0; o < O; ++o) to[o] *= weight / exponentials;
    to[target] -= weight;
    sum += double(weight) * (std::log(exponentials) + most - score[target]);
    total += weight;
  }
  if (!(total > 0)) return {0, scored, right};
  for (idx at = 0; at < h.batch * O; ++at) slope[at] /= static_cast<T>(total);
  return {static_cast<T>(sum / total), scored, right};
}

template <class T>
void differentiate(const Head<T>& h, const T* features, T* slope) {
  const idx N = h.batch, O = h.outputs, F = h.features, K = h.targets;
  if (K) std::memset(h.dlinear, 0, sizeof(T) * static_cast<std::size_t>(O * h.steps));
  std::vector<T> room;
  for (idx n = 0; n < N; ++n)
    each_target(h, n, room, [&](idx k, const T* moves) {
      T* to = h.dlinear + k * (O / K) * h.steps;
      for (idx o = k; o < O; o += K, to += h.steps) add(to, slope[n * O + o] *= h.size[n * K + k], moves, h.steps);
    });
  std::memset(h.dweight, 0, sizeof(T) * static_cast<std::size_t>(O * F));
  std::memset(h.dbias, 0, sizeof(T) * static_cast<std::size_t>(O));
  for (idx n = 0; n < N; ++n) {
    T* to = h.dgiven + n * F;
    std::memset(to, 0, sizeof(T) * static_cast<std::size_t>(F));
    for (idx o = 0; o < O; ++o) {
      const T d = slope[n * O + o];
      h.dbias[o] += d;
      add(h.dweight + o * F, d, features + n * F, F);
      add(to, d, h.weight + o * F, F);
    }
    for (idx k = 0; h.kept && k < F; ++k) to[k] *= h.kept[n * F + k];
  }
}

}  // namespace

template <class T>
Found<T> head(const Head<T>& h) {
  const idx count = h.batch * h.features;
  std::vector<T> ties, dropped, slope(static_cast<std::size_t>(h.batch * h.outputs));
  if (h.hidden) pool(h, ties);
  const T* features = h.given;
  if (h.kept) {
    dropped.resize(static_cast<std::size_t>(count));
    for (idx k = 0; k < count; ++k) dropped[k] = h.given[k] * h.kept[k];
    features = dropped.data();
  }
  predict(h, features);
  const Found<T> found = h.numbers ? squares(h, slope.data()) : cross_entropy(h, slope.data());
  if (!h.dweight) return found;
  differentiate(h, features, slope.data());
  if (h.hidden) spread(h, ties);
  return found;
}

template Found<float> head(const Head<float>&);
template Found<double> head(const Head<double>&);

}  // namespace undertow
