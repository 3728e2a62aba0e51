// The contract of the streaming runtime: a trained network, one step after the other, in float32.
//
// Only this and lstm.h are shared by all instruction-set levels. T steps, N streams (rows), C input, H hidden, R output
// of a recurrent layer. A Stage as given has its arrays as torch lays them out; `pack` lays them out for one level.
//
// Memory     Whoever calls owns all of it: nothing here allocates, locks or calls the system.
// Padding    A row of a buffer between stages holds `padded` floats; those past the stage's width are zero.
// State      What a stage remembers of one stream: `state` floats. Rows are state_row apart.
// Bits       A row's results depend neither on how steps are cut into blocks nor on the other rows.
// NaN        A NaN that is read stays in the state until `reset`.
// Symbols    Whoever calls has checked them: whole numbers from 0 to V - 1.
#pragma once
#include "lstm.h"

namespace undertow {

enum class Kind : int { embedding, normalise, scale, lstm, rnn, dense, pool };
enum class Activation : int { none, tanh, sigmoid, relu, softmax };
enum class Pooling : int { mean, max, mean_max, attention };

// One stage as given. Pointers that a kind does not name are null.
struct Stage {
  Kind kind;
  idx in, out;           // values of a step that are read and written
  idx hidden;            // lstm, rnn: H
  const float* first;    // embedding: weight [V,E]; normalise: centre [C]; scale: scale [C]; lstm, rnn: weight_ih [G*H,C];
                         // dense: weight [O,I]; pool: query [D], of attention
  const float* second;   // normalise: scale [C]; scale: shift [C]; lstm, rnn: weight_hh [G*H,R]
  const float* bias;     // lstm, rnn: [G*H]; dense: [O]
  idx symbols;           // embedding: V
  Activation activation;  // dense; rnn: tanh or relu
  Pooling pooling;
  const float *h_0, *c_0;  // lstm, rnn: [R] and [H]
  // These belong to an lstm (see Variant in lstm.h). Each may be null. The norms are given together or not at all.
  const float *projection;  // [R,H]
  const float *peepholes;   // [3,H]
  const float *gain_x, *gain_h, *gain_c, *bias_c;
  float zoneout_h, zoneout_c;
  bool coupled;
  // lstm without additions: the weights of h, and those of x where it is the h of a layer below, are kept in 16 bits.
  bool narrow, bounded;  // bounded: |x| <= 1
  UNDERTOW_INLINE bool varied() const { return projection || peepholes || gain_x || zoneout_h != 0 || zoneout_c != 0 || coupled; }
};

// A stage's steps and rows. x and y may not overlap. Row n of step t is at (t * rows + n) * x_row; y's rows are padded.
struct Block {
  idx steps, rows;
  const float* x;
  idx x_row;
  float* y;
  idx y_row;
  float* state;
  idx state_row;
  float* scratch;  // as many floats as `scratch` says
  bool back;       // every other block: weights that the first cache cannot hold are gone through from their end
};

// One level's functions.
struct Streaming {
  idx lanes;  // floats of a vector: rows and packed weights are padded to it
  idx (*packed)(const Stage&);   // floats of its packed arrays
  idx (*state)(const Stage&);    // floats that it remembers of a stream
  idx (*scratch)(const Stage&);  // floats that a block needs
  void (*pack)(const Stage&, float* packed);
  void (*reset)(const Stage&, float* state);  // one row
  void (*run)(const Stage&, const float* packed, const Block&);
};

// Whether the processor multiplies pairs of 16 bits and adds them in one instruction (AVX512-VNNI). Not where
// UNDERTOW_ISA forces avx512, which is without it.
bool has_vnni();

// Those of the level that `kernels` chooses or names; null as there.
const Streaming* streaming();

}  // namespace undertow
