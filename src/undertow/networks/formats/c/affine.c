/* ---- products with weights ---- */

/* `count` vectors of sums, in registers: to = bias + x W + h U. Rows of W and U lie `row` floats apart. bias may be 0.
 * Loops are written out, as some compilers keep the sums of a loop in memory. */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define START(j) vec sum##j = bias && j < count ? load(bias + j * LANES) : ALL(0.0f);
#define X_PART(j) if (j < count) sum##j += x[k] * load(W + j * LANES);
#define H_PART(j) if (j < count) sum##j += h[k] * load(U + j * LANES);
#define FINISH(j) if (j < count) store(to + j * LANES, sum##j);
INLINE void sums(const int count, int row, const float *bias, int n, const float *x, const float *W, int m,
                 const float *h, const float *U, float *to) {
  int k;
  EACH(START)
  for (k = 0; k < n; k++, W += row) { EACH(X_PART) }
  for (k = 0; k < m; k++, U += row) { EACH(H_PART) }
  EACH(FINISH)
}

/* to [row] = bias [row] + x [n] W [n][row] + h [m] U [m][row]; row is a multiple of 8. */
LOCAL void affine(int row, const float *bias, int n, const float *x, const float *W, int m, const float *h,
                   const float *U, float *to) {
  int at = 0;
#define PART(count) \
  for (; at + count * LANES <= row; at += count * LANES) \
  sums(count, row, bias ? bias + at : 0, n, x, W + at, m, h, U + at, to + at)
  PART(8);
  PART(4);
  PART(2);
  PART(1);
#undef PART
}

/* The sum of a [n] b [n]. Nothing past n is read. */
INLINE float dot(int n, const float *a, const float *b) {
  vec sum = {0};
  float rest = 0;
  int k = 0;
  for (; k + LANES <= n; k += LANES) sum += load(a + k) * load(b + k);
  for (; k < n; k++) rest += a[k] * b[k];
  return sum_of(sum) + rest;
}

