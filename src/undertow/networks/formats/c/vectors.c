/* ---- vectors: of LANES floats where the processor has them, else of one ---- */

#if (defined(__GNUC__) || defined(__clang__)) && !defined(UNDERTOW_SCALAR) && \
    (defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__) || defined(__ALTIVEC__))
#ifdef __AVX__
#define LANES 8
#else
#define LANES 4
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
#define CHOOSE(m, a, b) ((vec)(((m) & (mask)(a)) | (~(m) & (mask)(b))))
#define ALL(a) ((a) - (vec){0})
#else
#define LANES 1
typedef float vec;
typedef int mask;
#define CHOOSE(m, a, b) ((m) ? (a) : (b))
#define ALL(a) (a)
#endif

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline, unused))
#define LOCAL static inline __attribute__((unused)) /* inline where the compiler sees fit */
#define ALIGNED __attribute__((aligned(32)))
#else
#define INLINE static inline
#define LOCAL static inline
#define ALIGNED
#endif

INLINE vec load(const float *from) {
  vec v;
  memcpy(&v, from, sizeof v);
  return v;
}

INLINE void store(float *to, vec v) { memcpy(to, &v, sizeof v); }

INLINE float sum_of(vec v) {
  float lanes[LANES];
  memcpy(lanes, &v, sizeof v);
#if LANES == 8
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
#elif LANES == 4
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
#else
  return lanes[0];
#endif
}

INLINE vec larger(vec bound, vec x) { return CHOOSE((mask)(bound > x), bound, x); } /* NaN stays NaN */

INLINE vec smaller(vec bound, vec x) { return CHOOSE((mask)(bound < x), bound, x); }

/* tanh(x) = over / under = x P(x^2) / Q(x^2), fitted for the least relative error, 2.1e-8, up to 9, where tanh is
 * 1 - 3e-8; rounding makes it 3e-7. Its chain of operations is half as long as that of e^x. */
struct ratio {
  vec over, under;
};

INLINE struct ratio tanh_ratio(vec given) {
  const vec x = larger(ALL(-9.0f), smaller(ALL(9.0f), given)), t = x * x, u = t * t;
  struct ratio r;
  r.over = x * (t * 0x1.120b1cp-3f + 1.0f) +
           (x * u) * (u * 0x1.cadcc6p-27f + (t * 0x1.59c34ep-16f + 0x1.ca2c76p-9f));
  r.under = (t * 0x1.de5ad8p-2f + 1.0f) +
            u * (u * 0x1.a18028p-21f + (t * 0x1.588612p-12f + 0x1.a7f7ecp-6f));
  return r;
}

INLINE vec tanh_of(vec x) {
  const struct ratio r = tanh_ratio(x);
  return r.over / r.under;
}

INLINE vec sigmoid_of_half(vec half) { /* sigmoid(2 half): weights of sigmoids are stored halved, which is exact */
  const struct ratio r = tanh_ratio(half);
  return 0.5f * (r.under + r.over) / r.under;
}

/* The state before the first step. volatile: of a loop that copies zeros compilers make a call of memset. */
LOCAL void restart(int n, float *to, const volatile float *initial) {
  int k;
  for (k = 0; k < n; k++) to[k] = initial[k];
}

