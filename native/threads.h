// A team of threads that does one piece of work together and then sleeps: no core is held between calls.
#pragma once

namespace undertow {

class Team {
 public:
  int size;  // members that run, may be fewer than asked for
  int id;    // 0 .. size-1
  void barrier() const;
};

// Runs work(context, team) once per member and returns when all are done. When the pool is in use by another
// caller the work is done by this thread alone: kernels give the same bits for every team size.
void parallel(int threads, void (*work)(void* context, const Team& team), void* context);

}  // namespace undertow
