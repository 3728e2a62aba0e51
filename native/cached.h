// Parts of a file that the system has in its cache, read at once and by several threads.
#pragma once
#include <cstdint>

namespace undertow {

// Reads `count` parts of `size` bytes each, which begin at `offsets`, side by side into `to`. Sets missing[k] where part k
// is not wholly in the system's cache, or the system cannot tell: it is not waited for. Returns how many are missing.
std::int64_t read_cached(int file, const std::int64_t* offsets, std::int64_t count, std::int64_t size, char* to,
                         bool* missing, int threads);

}  // namespace undertow
