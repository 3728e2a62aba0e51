/* Filters a WAV file through a network: 16-bit PCM or 32-bit floats, each channel by a stream of its own.
 *
 *   python -c 'from undertow import networks; networks.write(networks.read("amp.nam"), "amp.c")'
 *   make && ./filter guitar.wav out.wav
 *
 * The network has one input and one output. out.wav has the format of the input; samples beyond 16 bits are clipped.
 */
#include "amp.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if AMP_INPUTS != 1 || AMP_OUTPUTS != 1
#error "expected a network with one input and one output"
#endif

enum { BLOCK = 64, PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe };

struct format {
  unsigned kind, channels, bits;
  uint32_t rate;
};

static void fail(const char *path, const char *why) {
  fprintf(stderr, "filter: %s: %s\n", path, why);
  exit(2);
}

static uint32_t number(const unsigned char *bytes, int count) { /* little-endian */
  uint32_t value = 0;
  while (count--) value = value << 8 | bytes[count];
  return value;
}

static void put(FILE *to, uint32_t value, int count) {
  for (; count--; value >>= 8) fputc((int)(value & 255), to);
}

/* Reads up to the samples and returns how many bytes of them follow. */
static uint32_t read_header(FILE *from, const char *path, struct format *format) {
  unsigned char head[12], chunk[8], body[40];
  if (fread(head, 1, 12, from) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4))
    fail(path, "expected a WAV file");
  format->channels = 0;
  while (fread(chunk, 1, 8, from) == 8) {
    uint32_t size = number(chunk + 4, 4), read = 0;
    if (!memcmp(chunk, "data", 4)) {
      if (!format->channels) fail(path, "damaged: the samples come before their format");
      return size;
    }
    if (!memcmp(chunk, "fmt ", 4)) {
      read = size < sizeof body ? size : (uint32_t)sizeof body;
      if (size < 16 || fread(body, 1, read, from) != read) fail(path, "damaged: the format is cut off");
      format->kind = number(body, 2);
      format->channels = number(body + 2, 2);
      format->rate = number(body + 4, 4);
      format->bits = number(body + 14, 2);
      if (format->kind == EXTENSIBLE && read >= 26) format->kind = number(body + 24, 2);
      if (!format->channels) fail(path, "damaged: no channel");
      if (!(format->kind == PCM && format->bits == 16) && !(format->kind == FLOAT && format->bits == 32))
        fail(path, "expected samples of 16 bits or 32-bit floats");
    }
    for (size += size & 1; read < size; read++) /* chunks are padded to an even size */
      if (fgetc(from) == EOF) fail(path, "damaged: cut off");
  }
  fail(path, "damaged: no samples");
  return 0;
}

static void write_header(FILE *to, const struct format *format, uint32_t size) {
  const unsigned frame = format->channels * format->bits / 8;
  fwrite("RIFF", 1, 4, to), put(to, 36 + size + (size & 1), 4), fwrite("WAVEfmt ", 1, 8, to);
  put(to, 16, 4), put(to, format->kind, 2), put(to, format->channels, 2), put(to, format->rate, 4);
  put(to, format->rate * frame, 4), put(to, frame, 2), put(to, format->bits, 2);
  fwrite("data", 1, 4, to), put(to, size, 4);
}

static float to_float(const struct format *format, const unsigned char *bytes) {
  float value;
  uint32_t bits = number(bytes, (int)format->bits / 8);
  if (format->kind == PCM) return (float)(bits < 0x8000 ? (int)bits : (int)bits - 0x10000) / 32768;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void from_float(const struct format *format, float value, unsigned char *bytes) {
  uint32_t bits;
  unsigned k;
  if (format->kind == PCM) {
    float scaled = value * 32768;
    int whole = 0; /* of NaN too */
    if (scaled >= 32767) whole = 32767;
    else if (scaled <= -32768) whole = -32768;
    else if (scaled == scaled) whole = (int)(scaled + (scaled < 0 ? -0.5f : 0.5f));
    bits = (uint32_t)whole;
  } else {
    memcpy(&bits, &value, sizeof bits);
  }
  for (k = 0; k < format->bits / 8; k++, bits >>= 8) bytes[k] = (unsigned char)bits;
}

int main(int argc, char **argv) {
  struct format format;
  FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL, *out;
  uint32_t size, written = 0;
  unsigned channel, sample;
  size_t frame, count, t;
  unsigned char *frames;
  amp_state *streams;
  float block[BLOCK];

  if (argc != 3) {
    fprintf(stderr, "usage: filter in.wav out.wav\n");
    return 2;
  }
  if (!in) fail(argv[1], "cannot be read");
  size = read_header(in, argv[1], &format);
#ifdef AMP_SAMPLE_RATE
  if (format.rate != AMP_SAMPLE_RATE)
    fprintf(stderr, "filter: %s: has %u Hz, the network was made for %.0f Hz\n", argv[1], (unsigned)format.rate,
            AMP_SAMPLE_RATE);
#endif
  sample = format.bits / 8;
  frame = format.channels * sample;
  frames = malloc(BLOCK * frame);
  streams = malloc(format.channels * sizeof *streams);
  out = fopen(argv[2], "wb");
  if (!out) fail(argv[2], "cannot be written");
  if (!frames || !streams) fail(argv[1], "not enough memory");
  for (channel = 0; channel < format.channels; channel++) amp_init(streams + channel);
  write_header(out, &format, 0);
  for (size /= (uint32_t)frame; size; size -= (uint32_t)count) { /* of a file that is cut off as much as there is */
    count = fread(frames, frame, size < BLOCK ? size : BLOCK, in);
    if (!count) break;
    for (channel = 0; channel < format.channels; channel++) {
      unsigned char *first = frames + channel * sample;
      for (t = 0; t < count; t++) block[t] = to_float(&format, first + t * frame);
      amp_process(streams + channel, block, block, count);
      for (t = 0; t < count; t++) from_float(&format, block[t], first + t * frame);
    }
    fwrite(frames, frame, count, out);
    written += (uint32_t)(count * frame);
  }
  if (written & 1) fputc(0, out);
  rewind(out);
  write_header(out, &format, written);
  if (ferror(out) || fclose(out)) fail(argv[2], "cannot be written");
  free(frames), free(streams), fclose(in);
  return 0;
}
