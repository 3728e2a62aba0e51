/* ---- an LSTM layer ---- */

/* Gates are i, f, g, o. A row of weights holds 4 parts of `padded` floats, one a gate; those of i, f and o are halved.
 * Lanes past `hidden` are computed but never read: there 0 times infinity would be NaN. */
struct lstm {
  int in, hidden, padded;
  const float *bias, *W, *U; /* [4][padded], [in][4][padded], [hidden][4][padded] */
};

/* A step: x [in] is read, h and c [padded] are read and written, sums [4][padded] and gates [4][padded] written. */
LOCAL void step_lstm(const struct lstm *l, const float *x, float *h, float *c, float *sums, float *gates) {
  int k;
  affine(4 * l->padded, l->bias, l->in, x, l->W, l->hidden, h, l->U, sums);
  for (k = 0; k < l->hidden; k += LANES) {
    const float *at = sums + k;
    const struct ratio i = tanh_ratio(load(at)), f = tanh_ratio(load(at + l->padded));
    const struct ratio g = tanh_ratio(load(at + 2 * l->padded)), o = tanh_ratio(load(at + 3 * l->padded));
    /* products of gates share a division */
    const vec kept = (f.under + f.over) / f.under * load(c + k);
    const vec added = (i.under + i.over) * g.over / (i.under * g.under);
    const vec cell = 0.5f * (kept + added);
    const struct ratio seen = tanh_ratio(cell);
    store(c + k, cell);
    store(h + k, 0.5f * ((o.under + o.over) * seen.over) / (o.under * seen.under));
    if (gates) {
      store(gates + k, 0.5f * (i.under + i.over) / i.under);
      store(gates + l->padded + k, 0.5f * (f.under + f.over) / f.under);
      store(gates + 2 * l->padded + k, g.over / g.under);
      store(gates + 3 * l->padded + k, 0.5f * (o.under + o.over) / o.under);
    }
  }
}

