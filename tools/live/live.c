/* What docs/live.html calls: the network as networks.write makes it of an embedding, an LSTM layer and a head. */
#include "net.h"

static net_state state;
static float y[NET_OUTPUTS];

void start(void) { net_init(&state); }

void take(int symbol) {
  const float x = (float)symbol;
  net_step(&state, &x, y);
}

/* Where the page reads; h and c it also writes, to go back to an earlier step. */
float *output(void) { return y; }
float *gates(void) { return state.gates2; }
float *cell(void) { return state.c2; }
float *hidden(void) { return state.h2; }
