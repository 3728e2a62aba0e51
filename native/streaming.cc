// Compiled once per instruction-set level, with UNDERTOW_STREAMING naming it, and the compiler told of the level.
#include "streaming.h"

namespace undertow {

extern const Streaming UNDERTOW_STREAMING;
constinit const Streaming UNDERTOW_STREAMING{lanes<float>, packed_floats, state_floats, scratch_floats, pack, reset, run};

}  // namespace undertow
