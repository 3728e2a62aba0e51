// The same of a variant: VariedForward and VariedBackward.
#pragma once
#include "layer_call.h"

namespace undertow {
namespace {

template <class T>
void run(const VariedForward<T>& f) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.varied_forward_f32(f);
  else k.varied_forward_f64(f);
}

template <class T>
void run(const VariedBackward<T>& b) {
  const Kernels& k = usable_kernels();
  nb::gil_scoped_release unlocked;
  if constexpr (std::is_same_v<T, float>) k.varied_backward_f32(b);
  else k.varied_backward_f64(b);
}

template <class T>
const std::uint8_t* flags(const char* name, const OptionalIn& a, const Problem<T>& p, const Tables& tables) {
  if (!a) return nullptr;
  if (tables.packed) refuse(name, "an array", "None with batch_sizes");
  return reinterpret_cast<const std::uint8_t*>(contiguous<bool>(name, *a, {p.steps, p.batch}));
}

template <class T>
void describe_variant(Variant<T>& v, const Problem<T>& p, const Tables& tables, const OptionalIn& mask,
                      const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                      const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                      const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x,
                      const OptionalIn& gain_h, const OptionalIn& gain_c, const OptionalIn& bias_c) {
  const idx N = p.batch, H = p.hidden;
  if (p.cell != Cell::lstm) refuse("cell", "'rnn'", "'lstm' for a variant");
  v.mask = flags("mask", mask, p, tables);
  v.reset = flags("reset", reset, p, tables);
  v.h_reset = contiguous<T>("h_reset", h_reset, {N, H});
  v.c_reset = contiguous<T>("c_reset", c_reset, {N, H});
  v.recurrent = contiguous<T>("recurrent", recurrent, {N, H});
  v.zoneout_h = given_sequence<const T>("zoneout_h", zoneout_h, p, tables, H);
  v.zoneout_c = given_sequence<const T>("zoneout_c", zoneout_c, p, tables, H);
  v.peepholes = contiguous<T>("peepholes", peepholes, {3, H});
  v.coupled = coupled;
  const bool norms = gain_x.has_value();
  if (gain_h.has_value() != norms || gain_c.has_value() != norms || bias_c.has_value() != norms)
    refuse("gain_x, gain_h, gain_c, bias_c", "some of them", "all or none");
  v.gain_x = contiguous<T>("gain_x", gain_x, {4 * H});
  v.gain_h = contiguous<T>("gain_h", gain_h, {4 * H});
  v.gain_c = contiguous<T>("gain_c", gain_c, {H});
  v.bias_c = contiguous<T>("bias_c", bias_c, {H});
}

// The tape of norms: both arrays or neither, and both where the pass needs them. Without rows none does, and the address
// of gates, by which the forward pass knows, is null.
template <class T, class Array>
auto normed_tape(const Problem<T>& p, const Variant<T>& v, const Tables& tables, const std::optional<Array>& normed,
                 const std::optional<Array>& scale, bool taped) {
  const bool rowless = tables.ragged() ? tables.rows() == 0 : p.steps * p.batch == 0;
  const bool expected = v.gain_x && (rowless ? normed.has_value() : taped);
  if (normed.has_value() != expected || scale.has_value() != expected)
    refuse("normed, scale", normed || scale ? "an array" : "None", expected ? "both" : "None without norms and a tape");
  return std::pair(contiguous<T>("normed", normed, tape_shape(p, tables, {2, 4, p.hidden})),
                   contiguous<T>("scale", scale, tape_shape(p, tables, {2})));
}

// The variant's own arguments come before those that the LSTM has anyway.
template <class... Args>
void varied_forward(const OptionalIn& mask, const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                    const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                    const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x, const OptionalIn& gain_h,
                    const OptionalIn& gain_c, const OptionalIn& bias_c, const OptionalOut& normed, const OptionalOut& scale,
                    const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bf16>) refuse_dtype(x, "float32 or float64 for a variant");
    else {
      VariedForward<T> f;
      Tables tables;
      describe<T>(f, tables, cell, x, args...);
      describe_variant<T>(f.variant, f, tables, mask, reset, h_reset, c_reset, recurrent, zoneout_h, zoneout_c, peepholes,
                          coupled, gain_x, gain_h, gain_c, bias_c);
      std::tie(f.normed, f.scale) = normed_tape<T>(f, f.variant, tables, normed, scale, f.gates);
      run(f);
    }
  });
}

template <class... Args>
void varied_backward(const OptionalIn& mask, const OptionalIn& reset, const OptionalIn& h_reset, const OptionalIn& c_reset,
                     const OptionalIn& recurrent, const OptionalIn& zoneout_h, const OptionalIn& zoneout_c,
                     const OptionalIn& peepholes, bool coupled, const OptionalIn& gain_x, const OptionalIn& gain_h,
                     const OptionalIn& gain_c, const OptionalIn& bias_c, const OptionalIn& normed, const OptionalIn& scale,
                     const OptionalOut& dh_reset, const OptionalOut& dc_reset, const OptionalOut& dpeepholes,
                     const OptionalOut& dgain_x, const OptionalOut& dgain_h, const OptionalOut& dgain_c,
                     const OptionalOut& dbias_c, const std::string& cell, const In& x, const Args&... args) {
  with_dtype(x, [&]<class T>(T) {
    if constexpr (std::is_same_v<T, bf16>) refuse_dtype(x, "float32 or float64 for a variant");
    else {
      VariedBackward<T> b;
      Tables tables;
      describe<T>(b, tables, cell, x, args...);
      describe_variant<T>(b.variant, b, tables, mask, reset, h_reset, c_reset, recurrent, zoneout_h, zoneout_c, peepholes,
                          coupled, gain_x, gain_h, gain_c, bias_c);
      std::tie(b.normed, b.scale) = normed_tape<T>(b, b.variant, tables, normed, scale, true);
      const idx N = b.batch, H = b.hidden;
      const bool sums = dgain_x.has_value();
      const bool alike = dgain_h.has_value() == sums && dgain_c.has_value() == sums && dbias_c.has_value() == sums;
      if (!alike || (sums && !b.variant.gain_x))
        refuse("dgain_x, dgain_h, dgain_c, dbias_c", "some of them, or no norms", "all or none, and norms with them");
      if (b.variant.gain_x && b.dbias && !sums)
        refuse("dbias", "an array", "None with norms and without their gradients");
      if (dpeepholes && !peepholes) refuse("dpeepholes", "an array", "None without peepholes");
      b.dh_reset = contiguous<T>("dh_reset", dh_reset, {N, H});
      b.dc_reset = contiguous<T>("dc_reset", dc_reset, {N, H});
      b.dpeepholes = contiguous<T>("dpeepholes", dpeepholes, {3, H});
      b.dgain_x = contiguous<T>("dgain_x", dgain_x, {4 * H});
      b.dgain_h = contiguous<T>("dgain_h", dgain_h, {4 * H});
      b.dgain_c = contiguous<T>("dgain_c", dgain_c, {H});
      b.dbias_c = contiguous<T>("dbias_c", dbias_c, {H});
      run(b);
    }
  });
}

}  // namespace
}  // namespace undertow
