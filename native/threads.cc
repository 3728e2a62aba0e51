#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace undertow {
namespace {

// Spin this often before sleeping: about 20 us, the cost of being woken. A thread that spins for longer than
// that would lose a whole scheduler slice when a neighbour takes a core.
constexpr int spins = 2000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::uint32_t wait_while(std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < spins; ++i) {
    const std::uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    relax();
  }
  std::uint32_t now = old;
  while (now == old) {
    value.wait(old, std::memory_order_acquire);
    now = value.load(std::memory_order_acquire);
  }
  return now;
}

struct Worker {
  alignas(64) std::atomic<std::uint32_t> ticket{0};
};

struct Pool {
  std::mutex in_use;
  std::deque<Worker> workers;  // a deque: workers hold on to their own element
  void (*work)(void*, const Team&) = nullptr;
  void* context = nullptr;
  int size = 1;
  alignas(64) std::atomic<std::uint32_t> arrived{0};
  alignas(64) std::atomic<std::uint32_t> round{0};  // of the barrier

  void barrier() {
    // Read before arriving: once all have, the next job may begin and set another size.
    const std::uint32_t now = round.load(std::memory_order_relaxed), members = static_cast<std::uint32_t>(size);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived.store(0, std::memory_order_relaxed);
      round.fetch_add(1, std::memory_order_release);
      round.notify_all();
    } else {
      wait_while(round, now);
    }
  }

  void serve(Worker& me, int id) {
    for (std::uint32_t seen = 0;;) {
      seen = wait_while(me.ticket, seen);
      work(context, Team{size, id});
      barrier();
    }
  }

  // Workers enough for a team of this size, or as many as the system gives.
  int hire(int threads) {
    while (static_cast<int>(workers.size()) < threads - 1) {
      Worker& worker = workers.emplace_back();
      try {
        std::thread(&Pool::serve, this, std::ref(worker), static_cast<int>(workers.size())).detach();
      } catch (const std::system_error&) {
        workers.pop_back();
        return static_cast<int>(workers.size()) + 1;
      }
    }
    return threads;
  }

  void run(int threads, void (*job)(void*, const Team&), void* job_context) {
    threads = hire(threads);
    work = job;
    context = job_context;
    size = threads;
    for (int i = 0; i < threads - 1; ++i) {
      Worker& worker = workers[static_cast<std::size_t>(i)];
      worker.ticket.fetch_add(1, std::memory_order_release);
      worker.ticket.notify_one();
    }
    job(job_context, Team{size, 0});
    barrier();
  }
};

Pool* pool = nullptr;  // never destroyed: its threads sleep until the process ends

Pool& the_pool() {
  static const bool made = [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });  // a child has none of the threads
    return true;
  }();
  (void)made;
  return *pool;
}

}  // namespace

void Team::barrier() const {
  if (size > 1) pool->barrier();
}

void parallel(int threads, void (*work)(void*, const Team&), void* context) {
  if (threads > 1) {
    Pool& p = the_pool();
    std::unique_lock<std::mutex> lock(p.in_use, std::try_to_lock);
    if (lock.owns_lock()) return p.run(threads, work, context);
  }
  work(context, Team{1, 0});
}

}  // namespace undertow
