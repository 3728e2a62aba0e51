// Sequences of different lengths, ranked: the tables that lstm.h asks for.
#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "lstm.h"

namespace undertow {
namespace {

struct Tables {  // empty where all sequences have one length
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

template <class P>
Sequence<P> along(const Tables& tables, P* data, idx step, idx row) {
  const bool padded = !tables.packed && !tables.order.empty();
  return {data, step, row, padded ? tables.order.data() : nullptr, tables.packed ? tables.starts.data() : nullptr};
}

}  // namespace
}  // namespace undertow
