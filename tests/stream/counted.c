// Preloaded into a process: counts what the C library is asked for. Read by test_realtime.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
extern void __libc_free(void*);

long counted_memory = 0, counted_locks = 0;

void* malloc(size_t n) { return ++counted_memory, __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return ++counted_memory, __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return ++counted_memory, __libc_realloc(p, n); }
void* aligned_alloc(size_t a, size_t n) { return ++counted_memory, __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { return ++counted_memory, !(*p = __libc_memalign(a, n)); }
void free(void* p) { ++counted_memory, __libc_free(p); }
int pthread_mutex_lock(pthread_mutex_t* m) {
  static int (*real)(pthread_mutex_t*);
  if (!real) real = (int (*)(pthread_mutex_t*))dlsym(RTLD_NEXT, "pthread_mutex_lock");
  return ++counted_locks, real(m);
}
