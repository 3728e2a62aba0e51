/* ---- a dense layer ---- */

enum activation { NONE, TANH, SIGMOID, RELU };

struct dense {
  int in, out, padded; /* padded: 0 where there are few outputs, which are then computed one by one */
  const float *bias;   /* [padded], or [out] */
  const float *weight; /* [in][padded], or [out][in] */
};

LOCAL void activate(enum activation kind, int n, float *y) { /* y has room for a whole vector */
  int k;
  for (k = 0; kind != NONE && k < n; k += LANES) {
    vec v = load(y + k);
    if (kind == RELU) v = larger(ALL(0.0f), v);
    if (kind == TANH) v = larger(ALL(-1.0f), smaller(ALL(1.0f), tanh_of(v))); /* rounding may not leave the range */
    if (kind == SIGMOID) v = larger(ALL(0.0f), smaller(ALL(1.0f), sigmoid_of_half(0.5f * v)));
    store(y + k, v);
  }
}

/* x [in] is read, y [out, and up to a multiple of 8] written. */
LOCAL void step_dense(const struct dense *l, enum activation kind, const float *x, float *y) {
  int k;
  if (l->padded) affine(l->padded, l->bias, l->in, x, l->weight, 0, x, l->weight, y);
  else
    for (k = 0; k < l->out; k++) y[k] = l->bias[k] + dot(l->in, x, l->weight + k * l->in);
  activate(kind, l->out, y);
}

