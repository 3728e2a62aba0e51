// A network that streams: its stages packed once for this processor, and the streams that run on them.
#pragma once
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "stream.h"

namespace undertow {

// Floats at an address that fits any vector; zero.
class Floats {
 public:
  explicit Floats(idx count)
      : count_(count), data_(static_cast<float*>(::operator new(bytes(), std::align_val_t{64}))) {
    std::memset(data_, 0, bytes());
  }
  Floats(Floats&& other) noexcept : count_(other.count_), data_(std::exchange(other.data_, nullptr)) {}
  Floats(const Floats&) = delete;
  Floats& operator=(const Floats&) = delete;
  ~Floats() { ::operator delete(data_, std::align_val_t{64}); }
  float* get() const { return data_; }

 private:
  std::size_t bytes() const { return sizeof(float) * static_cast<std::size_t>(count_ > 0 ? count_ : 1); }
  idx count_;
  float* data_;
};

// The stages of a network, packed. The arrays that the stages as given point to are read by the constructor only.
class Plan {
 public:
  Plan(const Streaming& level, std::vector<Stage> given, idx skip) : level(level), stages(std::move(given)), skip(skip) {
    for (const Stage& s : stages) {
      packed.emplace_back(level.packed(s));
      level.pack(s, packed.back().get());
      initial.emplace_back(level.state(s));
      level.reset(s, initial.back().get());
      states.push_back(state);
      rows.push_back(padded(s.out));
      state += level.state(s);
      scratch = scratch > level.scratch(s) ? scratch : level.scratch(s);
      work += work_of(s);
    }
  }
  idx in() const { return stages.front().in; }
  idx out() const { return stages.back().out; }
  // Whether the first stage reads whole vectors.
  bool reads_padded() const { return stages.front().kind == Kind::dense || stages.front().kind == Kind::pool; }
  idx padded(idx n) const { return (n + level.lanes - 1) / level.lanes * level.lanes; }

  const Streaming& level;
  const std::vector<Stage> stages;
  const idx skip;               // first inputs that are added to the first outputs
  std::vector<Floats> packed, initial;
  std::vector<idx> states;      // where each stage's state begins in a row
  std::vector<idx> rows;        // floats of a row that each stage writes
  idx state = 0, scratch = 0;   // floats of a row's state; of the room that a stage needs
  idx work = 0;                 // of a step, about: in multiplications

 private:
  static constexpr idx of_library = 40;  // what asinh or exp takes
  idx work_of(const Stage& s) const {
    switch (s.kind) {
      case Kind::embedding: return s.out;
      case Kind::normalise: return of_library * s.in;
      case Kind::scale: return s.in;
      case Kind::lstm:
      case Kind::rnn: return level.packed(s) + of_library * s.hidden;
      case Kind::dense: return level.packed(s) + (s.activation == Activation::none ? 0 : of_library * s.out);
      case Kind::pool: return 4 * s.in + of_library;
    }
    return 0;
  }
};

// N streams of one network, each with its own state.
class Streams {
 public:
  Streams(std::shared_ptr<const Plan> given, idx rows)
      : plan(std::move(given)), rows(rows), steps(rows < longest ? longest / rows : 1), state(rows * plan->state),
        scratch(plan->scratch), first(plan->reads_padded() ? steps * rows * plan->padded(plan->in()) : 0) {
    for (const Stage& s : plan->stages) between.emplace_back(steps * rows * plan->padded(s.out));
    reset();
  }

  void reset() {
    for (std::size_t k = 0; k < plan->stages.size(); ++k)
      for (idx n = 0; n < rows; ++n)
        std::memcpy(state_of(k, n), plan->initial[k].get(), sizeof(float) * floats(plan->level.state(plan->stages[k])));
  }

  // x [T,N,C] -> out [T,N,O]; out may be x where C is O. Allocates nothing, locks nothing.
  void process(const float* x, idx T, float* out) {
    for (idx t = 0; t < T; t += steps) {
      const idx many = T - t < steps ? T - t : steps;
      block(x + t * rows * plan->in(), many, out + t * rows * plan->out());
    }
  }

  // Whether all symbols are known; of a network without an embedding, true.
  bool known(const float* x, idx T) const {
    const idx V = plan->stages.front().symbols;
    for (idx k = 0; V && k < T * rows; ++k)
      if (!(x[k] >= 0 && x[k] < float(V) && x[k] == float(static_cast<idx>(x[k])))) return false;
    return true;
  }

  float* state_of(std::size_t stage, idx row) const { return state.get() + row * plan->state + plan->states[stage]; }

  const std::shared_ptr<const Plan> plan;
  const idx rows;
  std::atomic_flag busy;  // one thread at a time

 private:
  static constexpr idx longest = 64;  // steps that pass a stage before the next one: the buffers stay in the first cache
  static std::size_t floats(idx n) { return static_cast<std::size_t>(n); }

  void block(const float* x, idx T, float* out) {
    const idx C = plan->in(), O = plan->out(), last = static_cast<idx>(plan->stages.size()) - 1;
    const float* from = x;
    back = !back;
    idx row = C;
    if (plan->reads_padded()) {
      row = plan->padded(C);  // a division: only where it is needed
      for (idx k = 0; k < T * rows; ++k) std::memcpy(first.get() + k * row, x + k * C, sizeof(float) * floats(C));
      from = first.get();
    }
    for (idx k = 0; k <= last; ++k) {
      const Stage& s = plan->stages[floats(k)];
      float* to = between[floats(k)].get();
      plan->level.run(s, plan->packed[floats(k)].get(),
                      {T, rows, from, row, to, plan->rows[floats(k)], state_of(floats(k), 0), plan->state, scratch.get(), back});
      from = to;
      row = plan->rows[floats(k)];
    }
    if (O == 1 && !plan->skip) {
      for (idx k = 0; k < T * rows; ++k) out[k] = from[k * row];
      return;
    }
    for (idx k = 0; k < T * rows; ++k) {
      for (idx o = 0; o < plan->skip; ++o) out[k * O + o] = from[k * row + o] + x[k * C + o];  // out may be x
      for (idx o = plan->skip; o < O; ++o) out[k * O + o] = from[k * row + o];
    }
  }

  const idx steps;
  bool back = false;
  Floats state, scratch, first;
  std::vector<Floats> between;  // [steps][N][padded] of each stage
};

}  // namespace undertow
