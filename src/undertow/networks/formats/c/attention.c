/* ---- attention over all steps so far: the mean weighted by e^score ---- */

/* `total` holds the largest score and the sum of weights, relative to it. */
LOCAL void step_attention(int n, const float *query, const float *x, float *total, float *mean, float *y) {
  const float score = dot(n, x, query), top = total[0] > score ? total[0] : score;
  const float now = exponential(score - top), part = total[1] * exponential(total[0] - top);
  int k;
  total[0] = top;
  total[1] = part + now;
  for (k = 0; k < n; k++) y[k] = mean[k] += (x[k] - mean[k]) * (now / total[1]);
}

