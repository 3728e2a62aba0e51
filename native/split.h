// Who does what: work is cut into contiguous shares of equal size.
#pragma once
#include "panels.h"
#include "threads.h"
#include "tile.h"

namespace undertow {
namespace {

struct Share {
  idx begin, end;
};

inline Share share(idx items, const Team& team) {
  return {items * team.id / team.size, items * (team.id + 1) / team.size};
}

// Calls f(Int<R>, first row, number) for tiles of at most tile_rows rows, all of nearly the same size.
template <class F>
UNDERTOW_INLINE void each_tile(Share rows, F&& f) {
  const idx count = rows.end - rows.begin, tiles = ceil_div(most(0, count), tile_rows);
  for (idx i = 0; i < tiles; ++i) {
    const idx from = count * i / tiles, to = count * (i + 1) / tiles;
    with_extent<tile_rows>(static_cast<int>(to - from), [&](auto r) { f(r, rows.begin + from, i); });
  }
}

// Ranks 0..n-1 take sum over s of min(active(s), n) steps from `start` to `end`: cut where that sum is equal.
template <class T>
idx cut_sequences(const Problem<T>& problem, int part, int parts, idx start, idx end) {
  if (!problem.batch_sizes || part == 0 || part == parts) return problem.batch * part / parts;
  const auto steps_of_first = [&](idx n) {
    idx total = 0;
    for (idx s = start; s < end; ++s) total += least(problem.active(s), n);
    return total;
  };
  const idx wanted = steps_of_first(problem.batch) * part / parts;
  idx low = 0, high = problem.batch;
  while (low < high) {
    const idx middle = (low + high) / 2;
    if (steps_of_first(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

template <class T>
Share share_sequences(const Problem<T>& problem, const Team& team, idx start, idx end) {
  return {cut_sequences(problem, team.id, team.size, start, end),
          cut_sequences(problem, team.id + 1, team.size, start, end)};
}

// What threads write step by step is kept a page apart: closer, and each core's prefetching takes lines from the
// other, which made (32,100,8,32) on two cores no faster than on one.
template <class T>
constexpr idx apart = 4096 / sizeof(T);

// A row, into the cache.
template <class T>
UNDERTOW_INLINE void call_row(const T* row, idx size) {
  for (idx k = 0; k < size; k += 64 / idx{sizeof(T)}) __builtin_prefetch(row + k);
}

// Whether each step prefetches the rows of x and y for the next step. No processor foresees rows that lie in no order. Of arrays
// larger than the second cache it fetches the first rows of each page late.
template <class T>
bool calls_ahead(const Problem<T>& problem) {
  const idx rows = problem.tape_start(problem.steps);
  return problem.x.order || rows * (problem.input + problem.hidden) * idx{sizeof(T)} > idx{1} << 20;
}

// Waking a thread costs as much as a few million multiply-adds: do less than that alone.
template <class T>
int useful_threads(const Problem<T>& problem) {
  const double work = double(problem.steps) * double(problem.batch) * double(gates_of(problem.cell)) *
                      double(problem.hidden) * double(problem.input + problem.hidden);
  return work < 4e6 ? 1 : problem.threads;
}

// Who owns what through time: some sequences with all their units, which needs no meeting between steps; or, where
// there are fewer sequences than threads or the weights of a step (`fan_in` a gate) are too large to stream past each
// thread's few sequences, some units of all sequences, with a meeting at every step.
template <class T>
bool split_units(const Problem<T>& problem, const Team& team, idx fan_in) {
  const idx weights = gates_of(problem.cell) * problem.hidden * fan_in;
  const bool large = weights * idx{sizeof(T)} > idx{1} << 20 && problem.batch < 64 * team.size;
  return team.size > 1 && (large || (problem.batch < team.size && weights * problem.batch > idx{1} << 16));
}

}  // namespace
}  // namespace undertow
