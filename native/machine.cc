#include "machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "threads.h"

namespace undertow {
namespace {

class Watch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Peak {
  const Kernels& kernels;
  double seconds;
  std::vector<double> speeds;  // flops a second of each thread
};

void multiply_and_add(void* context, const Team& team) {
  Peak& peak = *static_cast<Peak*>(context);
  constexpr idx rounds = 10000;  // tens of microseconds, beside which asking the time is nothing
  team.barrier();  // together: a core that works while the others rest may run at a higher clock
  const Watch watch;
  double flops = 0, elapsed = 0;
  for (; elapsed < peak.seconds; elapsed = watch.seconds()) flops += peak.kernels.f32.multiply_adds(rounds);
  peak.speeds[static_cast<std::size_t>(team.id)] = flops / elapsed;
}

constexpr int series = 15;
constexpr int looks_before_yield = 10000;  // more than any handover takes, unless both threads share a core

struct Game {
  alignas(128) std::atomic<unsigned> ball{0};  // even: the first thread's turn; odd: the second's
  alignas(128) int rounds = 0;
  double seconds[series] = {};
};

void play(void* context, const Team& team) {
  if (team.size < 2 || team.id > 1) return;
  Game& game = *static_cast<Game*>(context);
  unsigned turn = static_cast<unsigned>(team.id);
  for (double& seconds : game.seconds) {
    const Watch watch;
    for (int round = 0; round < game.rounds; ++round, turn += 2) {
      for (int looks = 1; game.ball.load(std::memory_order_acquire) != turn; ++looks)  // no pause: it would count
        if (looks % looks_before_yield == 0) std::this_thread::yield();
      game.ball.store(turn + 1, std::memory_order_release);
    }
    if (team.id == 0) seconds = watch.seconds() / game.rounds / 2;
  }
}

}  // namespace

double fma_peak(const Kernels& kernels, int threads, double seconds) {
  Peak peak{kernels, seconds, std::vector<double>(static_cast<std::size_t>(threads))};
  parallel(threads, multiply_and_add, &peak);
  if (std::count(peak.speeds.begin(), peak.speeds.end(), 0.0)) return 0;
  return std::accumulate(peak.speeds.begin(), peak.speeds.end(), 0.0);
}

double handover(int rounds) {
  Game game;
  game.rounds = rounds;
  parallel(2, play, &game);
  std::nth_element(game.seconds, game.seconds + series / 2, game.seconds + series);
  return game.seconds[series / 2];
}

}  // namespace undertow
