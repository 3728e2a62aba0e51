/* @about */
/* @include */

#include <string.h>

/* @pieces */
/* ---- the network ---- */

/* @constants */
void network_reset(network_state *state) {
  /* @reset */
}

void network_init(network_state *state) { network_reset(state); }

void network_step(network_state *state, const float *x, float *y) {
  /* @step */
}

void network_process(network_state *state, const float *x, float *y, size_t steps) {
  size_t t;
  for (t = 0; t < steps; t++) network_step(state, x + t * NETWORK_INPUTS, y + t * NETWORK_OUTPUTS);
}
