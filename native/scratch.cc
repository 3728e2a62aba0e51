#include "scratch.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace undertow {
namespace {

constexpr std::size_t keep_at_most = std::size_t{512} << 20;

struct Block {
  void* data;
  std::size_t bytes;
};

struct Pool {
  std::mutex lock;
  std::vector<Block> idle;
  std::size_t kept = 0;
  std::size_t lent = 0;      // blocks in use
  std::size_t unwanted = 0;  // as many of them go back to the system, as they come
};

// Never destroyed: kernels may still run on other threads while the process exits.
Pool* pool = nullptr;

Pool& the_pool() {
  static const bool made = [] {
    pool = new Pool;
    // The lock may have been held by a thread that the child does not have.
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
    return true;
  }();
  (void)made;
  return *pool;
}

// Sizes are rounded to eighths of a power of two, so that calls of nearly the same size share blocks.
std::size_t round_up(std::size_t bytes) {
  std::size_t step = 4096;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step + (bytes == 0) * step;
}

// Large blocks come from the system itself: malloc might keep what is given back, and in pages of 2 MiB, where the
// system grants them, a tape's rows need fewer translations. Under the address sanitizer all come from malloc, which
// alone it watches.
#ifdef __SANITIZE_ADDRESS__
constexpr bool ask_system = false;
#else
constexpr bool ask_system = true;
#endif
constexpr std::size_t large = std::size_t{1} << 17, huge_page = std::size_t{1} << 21;

bool of_system(std::size_t size) { return ask_system && size >= large; }

void* take_new(std::size_t size) {
  if (!of_system(size)) return std::aligned_alloc(64, size);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  if (size >= huge_page) madvise(data, size, MADV_HUGEPAGE);
#endif
  return data;
}

void give_back(const Block& block) {
  if (of_system(block.bytes)) munmap(block.data, block.bytes);
  else std::free(block.data);
}

// In the words of torch's allocator, which programs look for that try smaller and smaller batches.
[[noreturn]] void refuse(std::size_t bytes) {
  throw std::runtime_error("DefaultCPUAllocator: can't allocate memory: you tried to allocate " + std::to_string(bytes) +
                           " bytes. Error code 12 (Cannot allocate memory)");
}

}  // namespace

void* scratch_take(std::size_t bytes) {
  const std::size_t size = round_up(bytes);
  Pool& p = the_pool();
  {
    std::lock_guard<std::mutex> guard(p.lock);
    ++p.lent;
    for (std::size_t i = p.idle.size(); i-- > 0;) {
      if (p.idle[i].bytes != size) continue;
      void* data = p.idle[i].data;
      p.idle.erase(p.idle.begin() + static_cast<std::ptrdiff_t>(i));
      p.kept -= size;
      return data;
    }
  }
  if (void* data = take_new(size)) return data;
  scratch_release();
  if (void* data = take_new(size)) return data;
  std::lock_guard<std::mutex> guard(p.lock);
  p.lent -= p.lent > 0;
  refuse(size);
}

void scratch_give(void* block, std::size_t bytes) noexcept {
  const std::size_t size = round_up(bytes);
  Pool& p = the_pool();
  std::lock_guard<std::mutex> guard(p.lock);
  p.lent -= p.lent > 0;  // after a fork there are blocks that nobody has counted
  if (p.unwanted) {
    --p.unwanted;
    return give_back({block, size});
  }
  p.idle.push_back({block, size});
  p.kept += size;
  while (p.kept > keep_at_most) {  // the least recently used goes first
    p.kept -= p.idle.front().bytes;
    give_back(p.idle.front());
    p.idle.erase(p.idle.begin());
  }
}

void scratch_release() noexcept {
  Pool& p = the_pool();
  std::lock_guard<std::mutex> guard(p.lock);
  for (const Block& block : p.idle) give_back(block);
  p.idle.clear();
  p.kept = 0;
  p.unwanted = p.lent;
}

}  // namespace undertow
