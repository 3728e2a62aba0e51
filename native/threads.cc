#include "threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace undertow {
namespace {

// Spin this often before sleeping: some microseconds, what the slowest of a team is behind. Longer, and a thread would
// burn its share of a core that a neighbour has taken.
constexpr int spins = 600;

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

}  // namespace

class Meeting {
 public:
  void join(int size) {
    const std::uint32_t now = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size)) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_release);
      round_.notify_all();
    } else {
      wait_while(round_, now);
    }
  }

 private:
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};
};

namespace {

struct Worker {
  alignas(64) std::atomic<std::uint32_t> ticket{0};
};

class Pool {
 public:
  std::mutex in_use;

  void run(int threads, void (*work)(void*, const Team&), void* context) {
    work_ = work;
    context_ = context;
    size_ = hire(threads);
    for (int i = 0; i < size_ - 1; ++i) {
      Worker& worker = workers_[static_cast<std::size_t>(i)];
      worker.ticket.fetch_add(1, std::memory_order_release);
      worker.ticket.notify_one();
    }
    take_part(0);
  }

 private:
  std::deque<Worker> workers_;  // a deque: workers hold on to their own element
  void (*work_)(void*, const Team&) = nullptr;
  void* context_ = nullptr;
  int size_ = 1;
  Meeting meeting_;

  void take_part(int id) {
    const int size = size_;  // once all have met at the end, the next job may set another
    work_(context_, Team{size, id, &meeting_});
    meeting_.join(size);
  }

  void serve(Worker& me, int id) {
    for (std::uint32_t seen = 0;;) {
      seen = wait_while(me.ticket, seen);
      take_part(id);
    }
  }

  // Workers enough for a team of this size, or as many as the system gives: the size that can be had.
  int hire(int threads) {
    while (static_cast<int>(workers_.size()) < threads - 1) {
      Worker& worker = workers_.emplace_back();
      try {
        std::thread(&Pool::serve, this, std::ref(worker), static_cast<int>(workers_.size())).detach();
      } catch (const std::system_error&) {
        workers_.pop_back();
        return static_cast<int>(workers_.size()) + 1;
      }
    }
    return threads;
  }
};

Pool* pool = nullptr;  // never destroyed: its threads sleep until the process ends

// OpenMP's own entry points, of the library that the process has: GCC's interface, which LLVM's offers too.
struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*thread)() = nullptr;
  int (*threads)() = nullptr;
};
OpenMP openmp;

void after_fork() {  // a child has none of the threads
  pool = new Pool;
  openmp = {};
}

void watch_forks() {
  static const bool once = [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, after_fork);
    return true;
  }();
  (void)once;
}

struct Job {
  void (*work)(void*, const Team&);
  void* context;
  Meeting meeting;
};

void run_in_openmp(void* data) {
  Job* job = static_cast<Job*>(data);
  job->work(job->context, Team{openmp.threads(), openmp.thread(), &job->meeting});
}

}  // namespace

void Team::barrier() const {
  if (size > 1) meeting->join(size);
}

void parallel(int threads, void (*work)(void*, const Team&), void* context) {
  if (threads > 1) {
    watch_forks();
    if (openmp.parallel) {
      Job job{work, context, {}};
      return openmp.parallel(run_in_openmp, &job, static_cast<unsigned>(threads), 0);
    }
    std::unique_lock<std::mutex> lock(pool->in_use, std::try_to_lock);
    if (lock.owns_lock()) return pool->run(threads, work, context);
  }
  work(context, Team{1, 0, nullptr});
}

bool share_openmp() {
  watch_forks();
  OpenMP found;
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  found.thread = reinterpret_cast<decltype(found.thread)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  found.threads = reinterpret_cast<decltype(found.threads)>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  if (!found.parallel || !found.thread || !found.threads) return false;
  openmp = found;
  return true;
}

}  // namespace undertow
