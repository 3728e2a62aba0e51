/* ---- shift + scale x ---- */

LOCAL void step_scale(int n, const float *scale, const float *shift, const float *x, float *y) {
  int k;
  for (k = 0; k < n; k++) y[k] = shift[k] + scale[k] * x[k];
}

