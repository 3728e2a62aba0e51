/* ---- an embedding ---- */

/* The row of a symbol; of a symbol that is none, NaN: 0, 1, ..., symbols - 1 are known. */
LOCAL void step_embedding(int symbols, int out, const float *weight, float symbol, float *y) {
  const uint32_t not_a_number = 0x7fc00000;
  int k;
  if (symbol >= 0 && symbol < (float)symbols && (float)(int32_t)symbol == symbol)
    memcpy(y, weight + (size_t)symbol * (size_t)out, sizeof(float) * (size_t)out);
  else
    for (k = 0; k < out; k++) memcpy(y + k, &not_a_number, sizeof not_a_number);
}

