/* Runs networks written in C: input and output are files of floats, one network after the other. A program includes
 * the headers, then says RUN(name, NAME, steps) for each network, between BEGIN and END. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN                                                   \
  int main(int argc, char **argv) {                             \
    FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL;         \
    FILE *out = argc == 3 ? fopen(argv[2], "wb") : NULL;        \
    if (!in || !out) return 2;

/* All steps at once, then from reset on one by one, then from a copy of the state: the same bits. */
#define RUN(name, NAME, steps)                                                            \
  {                                                                                       \
    const size_t n = steps, rows = NAME##_INPUTS, columns = NAME##_OUTPUTS;               \
    float *x = malloc(sizeof *x * n * rows), *y = malloc(sizeof *y * n * columns);        \
    float *one = malloc(sizeof *y * n * columns);                                         \
    name##_state *s = malloc(sizeof *s), copy;                                            \
    size_t t;                                                                             \
    if (fread(x, sizeof *x, n * rows, in) != n * rows) return 3;                          \
    name##_init(s);                                                                       \
    name##_process(s, x, y, n);                                                           \
    name##_reset(s);                                                                      \
    for (t = 0; t < n; t++) {                                                             \
      name##_step(s, x + t * rows, one + t * columns);                                    \
      copy = *s;                                                                          \
      *s = copy;                                                                          \
    }                                                                                     \
    if (memcmp(y, one, sizeof *y * n * columns)) return fprintf(stderr, #name ": other bits\n"), 4; \
    if (fwrite(y, sizeof *y, n * columns, out) != n * columns) return 5;                  \
    free(x), free(y), free(one), free(s);                                                 \
  }

#define END                                                     \
    fclose(in);                                                 \
    return fclose(out);                                         \
  }
