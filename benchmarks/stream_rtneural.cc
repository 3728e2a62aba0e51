// RTNeural's LSTM of a size fixed when it is compiled, as benchmarks/stream.py runs it: the size and a model in its
// JSON, then for each line of the input one measurement. First the outputs of the 64 inputs are printed.
#include <RTNeural/RTNeural.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

template <int H>
int measured(const char* path) {
  using Model = RTNeural::ModelT<float, 1, 1, RTNeural::LSTMLayerT<float, 1, H>, RTNeural::DenseT<float, H, 1>>;
  const auto model = std::make_unique<Model>();
  std::ifstream file(path, std::ifstream::binary);
  model->parseJson(file, false);
  model->reset();
  constexpr int T = 64;
  float x[T], y[T];
  for (int t = 0; t < T; ++t) x[t] = 0.25f * float(t % 7) - 0.75f;
  const auto block = [&] {
    for (int t = 0; t < T; ++t) {
      alignas(64) float in[1] = {x[t]};
      y[t] = model->forward(in);
    }
    asm volatile("" : : "r"(y) : "memory");
  };
  block();
  for (int t = 0; t < T; ++t) std::printf("%.9g\n", y[t]);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
    double best = 1e99;
    for (int k = 0; k < 4000 / H + 20; ++k) {
      const auto began = std::chrono::steady_clock::now();
      block();
      const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
      best = took.count() / T < best ? took.count() / T : best;
    }
    std::printf("%.3f\n", best);
    std::fflush(stdout);
  }
  return 0;
}

int main(int, char** arguments) {
  switch (std::atoi(arguments[1])) {
    case 8: return measured<8>(arguments[2]);
    case 12: return measured<12>(arguments[2]);
    case 16: return measured<16>(arguments[2]);
    case 20: return measured<20>(arguments[2]);
    case 32: return measured<32>(arguments[2]);
    case 40: return measured<40>(arguments[2]);
    case 64: return measured<64>(arguments[2]);
    case 128: return measured<128>(arguments[2]);
  }
  return 2;
}
