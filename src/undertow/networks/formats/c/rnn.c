/* ---- a plain recurrent layer ---- */

struct rnn {
  int in, hidden, padded;
  const float *bias, *W, *U; /* [padded], [in][padded], [hidden][padded] */
  int relu;                  /* else tanh */
  float zoneout;
};

/* A step: x [in] is read, h [padded] read and written, sums [padded] written. */
LOCAL void step_rnn(const struct rnn *l, const float *x, float *h, float *sums) {
  int k;
  affine(l->padded, l->bias, l->in, x, l->W, l->hidden, h, l->U, sums);
  for (k = 0; k < l->hidden; k += LANES) {
    const vec made = l->relu ? larger(ALL(0.0f), load(sums + k)) : tanh_of(load(sums + k));
    store(h + k, l->zoneout * load(h + k) + (1.0f - l->zoneout) * made);
  }
}

