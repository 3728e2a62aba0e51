/* ---- softmax, in place ---- */

LOCAL void softmax(int n, float *y) {
  float top = y[0], sum = 0;
  int k;
  for (k = 1; k < n; k++) top = y[k] > top || y[k] != y[k] ? y[k] : top;
  for (k = 0; k < n; k++) sum += y[k] = exponential(y[k] - top);
  for (k = 0; k < n; k++) y[k] /= sum;
}

