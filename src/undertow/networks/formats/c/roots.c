/* ---- 1 / sqrt(v), v > 0: a guess from the bits, then Newton's steps ---- */

LOCAL double inverse_root(double v) {
  uint64_t bits;
  double root;
  int k;
  memcpy(&bits, &v, sizeof bits);
  bits = UINT64_C(0x5fe6eb50c7b537a9) - (bits >> 1);
  memcpy(&root, &bits, sizeof root);
  for (k = 0; k < 4; k++) root *= 1.5 - 0.5 * v * root * root;
  return root;
}

