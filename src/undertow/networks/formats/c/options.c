/* ---- an LSTM layer with options ---- */

struct lstm_with_options {
  int in, hidden, out, padded, padded_out;
  const float *bias, *W, *U;    /* [4][padded], [in][4][padded], [out][4][padded] */
  const float *peepholes;       /* [3][padded], of i, f and o, halved; 0: none */
  const float *gain_x, *gain_h; /* layer normalisation: [4][padded], halved for i, f and o; 0: none */
  const float *gain_c, *bias_c; /* [padded] */
  const float *projection;      /* [hidden][padded_out]; 0: none */
  int coupled;                  /* f = 1 - i */
  float zoneout_h, zoneout_c;
};

/* `rows` rows of n floats, `row` floats apart, are normalised together, then multiplied by gain. */
LOCAL void layer_norm(int rows, int row, int n, float *v, const float *gain) {
  const float count = (float)(rows * n);
  float mean = 0, squares = 0, scale;
  int r, k;
  for (r = 0; r < rows; r++) {
    vec sum = {0};
    for (k = 0; k + LANES <= n; k += LANES) sum += load(v + r * row + k);
    for (; k < n; k++) mean += v[r * row + k];
    mean += sum_of(sum);
  }
  mean /= count;
  for (r = 0; r < rows; r++) {
    vec sum = {0};
    for (k = 0; k + LANES <= n; k += LANES) {
      const vec apart = load(v + r * row + k) - mean;
      sum += apart * apart;
    }
    for (; k < n; k++) squares += (v[r * row + k] - mean) * (v[r * row + k] - mean);
    squares += sum_of(sum);
  }
  scale = (float)inverse_root((double)(squares / count + 1e-5f));
  for (k = 0; k < rows * row; k += LANES) store(v + k, (load(v + k) - mean) * scale * load(gain + k));
}

/* A step: x [in] is read, h [padded_out] and c [padded] read and written; sums is room for 11 padded and padded_out;
 * gates [4][padded] is written, or 0. */
LOCAL void step_with_options(const struct lstm_with_options *l, const float *x, float *h, float *c, float *sums,
                             float *gates) {
  const int row = l->padded;
  float *of_h = sums + 4 * row, *seen = of_h + 4 * row, *open = seen + row, *made = open + row, *y = made + row;
  int k;
  if (l->gain_x) {
    affine(4 * row, 0, l->in, x, l->W, 0, x, l->W, sums);
    affine(4 * row, 0, l->out, h, l->U, 0, h, l->U, of_h);
    layer_norm(4, row, l->hidden, sums, l->gain_x);
    layer_norm(4, row, l->hidden, of_h, l->gain_h);
    for (k = 0; k < 4 * row; k += LANES) store(sums + k, load(l->bias + k) + (load(sums + k) + load(of_h + k)));
  } else {
    affine(4 * row, l->bias, l->in, x, l->W, l->out, h, l->U, sums);
  }
  for (k = 0; k < l->hidden; k += LANES) {
    const vec before = load(c + k);
    vec of_i = load(sums + k), of_f = load(sums + row + k), of_o = load(sums + 3 * row + k);
    vec i, f, g, now;
    if (l->peepholes) {
      of_i += load(l->peepholes + k) * before;
      of_f += load(l->peepholes + row + k) * before;
    }
    i = sigmoid_of_half(of_i);
    f = l->coupled ? 1.0f - i : sigmoid_of_half(of_f);
    g = tanh_of(load(sums + 2 * row + k));
    now = i * g + f * before;
    if (l->peepholes) of_o += load(l->peepholes + 2 * row + k) * now;
    store(open + k, sigmoid_of_half(of_o));
    store(seen + k, now);
    store(c + k, l->zoneout_c * before + (1.0f - l->zoneout_c) * now);
    if (gates) {
      store(gates + k, i);
      store(gates + row + k, f);
      store(gates + 2 * row + k, g);
      store(gates + 3 * row + k, load(open + k));
    }
  }
  if (l->gain_c) {
    layer_norm(1, row, l->hidden, seen, l->gain_c);
    for (k = 0; k < l->hidden; k += LANES) store(seen + k, load(seen + k) + load(l->bias_c + k));
  }
  for (k = 0; k < l->hidden; k += LANES) store(made + k, load(open + k) * tanh_of(load(seen + k)));
  if (l->projection) affine(l->padded_out, 0, l->hidden, made, l->projection, 0, made, l->projection, y);
  else y = made;
  for (k = 0; k < l->out; k += LANES)
    store(h + k, l->zoneout_h * load(h + k) + (1.0f - l->zoneout_h) * load(y + k));
}

