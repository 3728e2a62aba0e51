// A team of threads that does one piece of work together.
//
// Beside a framework that has OpenMP threads (torch), ours are those same threads: two pools in one process would
// fight for the cores, since OpenMP's spin for milliseconds after each of the framework's operations. Otherwise, and
// in a forked child, they are our own, which sleep between calls and hold no core.
#pragma once

namespace undertow {

class Meeting;

class Team {
 public:
  int size;  // members that run, may be fewer than asked for
  int id;    // 0 .. size-1
  Meeting* meeting;
  void barrier() const;
};

// Runs work(context, team) once per member and returns when all are done. When our pool is in use by another
// caller the work is done by this thread alone: kernels give the same bits for every team size.
void parallel(int threads, void (*work)(void* context, const Team& team), void* context);

// From now on, use the OpenMP threads that this process has loaded; false if it has none.
bool share_openmp();

}  // namespace undertow
