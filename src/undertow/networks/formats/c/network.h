/* @about */
#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* @sizes */

/* All that a stream of the network remembers, and room to compute in. A copy is a copy of the stream. */
typedef struct network_state {
  /* @state */
} network_state;

/* Makes a state ready: before the first step. */
void network_init(network_state *state);

/* Takes the state back to before the first step. */
void network_reset(network_state *state);

/* Takes one step: x [NETWORK_INPUTS] is read, y [NETWORK_OUTPUTS] written. y may be x where both are of one size. */
void network_step(network_state *state, const float *x, float *y);

/* Takes `steps` steps: x [steps][NETWORK_INPUTS] is read, y [steps][NETWORK_OUTPUTS] written. */
void network_process(network_state *state, const float *x, float *y, size_t steps);

#ifdef __cplusplus
}
#endif

#endif
