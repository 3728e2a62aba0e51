/* ---- asinh((x - centre) / scale) ---- */

static double logarithm(double v) { /* v >= 1: 2^n m, and log m = 2 atanh((m - 1) / (m + 1)) */
  uint64_t bits;
  double m, s, t, series = 0;
  int n, k;
  memcpy(&bits, &v, sizeof bits);
  n = (int)(bits >> 52) - 1023;
  bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
  memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) m *= 0.5, n++;
  s = (m - 1) / (m + 1), t = s * s;
  for (k = 17; k > 0; k -= 2) series = series * t + 1.0 / k;
  return n * 0.6931471805599453 + 2 * s * series;
}

static float inverse_sinh(float x) {
  const double a = x < 0 ? -(double)x : (double)x;
  double v;
  if (!(a - a == 0) || a < 1e-4) return x; /* infinite, NaN, or asinh(x) = x - x^3 / 6 */
  v = a * a + 1;
  v = logarithm(a + v * inverse_root(v));
  return (float)(x < 0 ? -v : v);
}

LOCAL void step_normalise(int n, const float *centre, const float *scale, const float *x, float *y) {
  int k;
  for (k = 0; k < n; k++) y[k] = inverse_sinh((x[k] - centre[k]) / scale[k]);
}

