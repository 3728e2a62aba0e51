/* ---- pools of all steps so far; this step is number `count` ---- */

INLINE uint32_t next(uint32_t count) { return count < UINT32_MAX ? count + 1 : count; }

LOCAL void step_mean(int n, uint32_t count, const float *x, float *mean, float *y) {
  int k;
  for (k = 0; k < n; k++) y[k] = mean[k] += (x[k] - mean[k]) / (float)count; /* a sum would stop growing */
}

LOCAL void step_max(int n, uint32_t count, const float *x, float *largest, float *y) {
  int k;
  for (k = 0; k < n; k++) {
    if (count == 1 || x[k] > largest[k] || x[k] != x[k]) largest[k] = x[k];
    y[k] = largest[k];
  }
}

