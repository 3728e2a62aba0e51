/* ---- e^x for x <= 0 ---- */

LOCAL float exponential(float x) {
  const float hi = 0.693359375f, lo = -2.12194440e-4f; /* ln 2 */
  int32_t n, bits;
  float r, q, scale;
  if (x < -87.0f) return 0;
  if (x != x) return x;
  n = (int32_t)(x * 1.44269504f - 0.5f); /* e^x = 2^n e^r */
  r = (x - (float)n * hi) - (float)n * lo;
  q = (((0x1.6a23cep-10f * r + 0x1.123a2p-7f) * r + 0x1.5558f2p-5f) * r + 0x1.555492p-3f) * r + 0x1.fffffcp-2f;
  bits = (n + 127) << 23;
  memcpy(&scale, &bits, sizeof scale);
  return scale * ((q * r + 1.0f) * r + 1.0f);
}

