#include "cached.h"

#include <sys/types.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>

#include "threads.h"

namespace undertow {
namespace {

struct Parts {
  int file;
  const std::int64_t* offsets;
  std::int64_t count, size;
  char* to;
  bool* missing;
};

bool is_read([[maybe_unused]] const Parts& parts, [[maybe_unused]] std::int64_t k) {
#ifdef RWF_NOWAIT
  const iovec into{parts.to + k * parts.size, static_cast<std::size_t>(parts.size)};
  return preadv2(parts.file, &into, 1, static_cast<off_t>(parts.offsets[k]), RWF_NOWAIT) == parts.size;
#else
  return false;
#endif
}

void read_share(void* context, const Team& team) {
  const Parts& parts = *static_cast<const Parts*>(context);
  const std::int64_t end = parts.count * (team.id + 1) / team.size;
  for (std::int64_t k = parts.count * team.id / team.size; k < end; ++k) parts.missing[k] = !is_read(parts, k);
}

}  // namespace

std::int64_t read_cached(int file, const std::int64_t* offsets, std::int64_t count, std::int64_t size, char* to,
                         bool* missing, int threads) {
  Parts parts{file, offsets, count, size, to, missing};
  parallel(threads, read_share, &parts);
  return std::count(missing, missing + count, true);
}

}  // namespace undertow
