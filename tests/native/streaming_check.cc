// The streaming runtime without Python, for processors that only an emulator runs: built with UNDERTOW_STREAMING naming
// the level, it compares LSTMs of many sizes with float64 and each way of cutting the steps with the other, bit for bit.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "stream_plan.h"

namespace undertow {
extern const Streaming UNDERTOW_STREAMING;
}
using namespace undertow;

namespace {

struct Made {
  std::vector<float> w, u, b, h, c, head, head_bias;
  Stage layer{}, dense{};
  Made(int C, int H, bool narrow) {
    std::mt19937 generator(unsigned(1000 * C + H));
    const float k = 1 / std::sqrt(float(H));
    std::uniform_real_distribution<float> uniform(-k, k);
    const auto draw = [&](int n) {
      std::vector<float> values(static_cast<std::size_t>(n));
      for (float& v : values) v = uniform(generator);
      return values;
    };
    w = draw(4 * H * C), u = draw(4 * H * H), b = draw(4 * H), h = draw(H), c = draw(H), head = draw(2 * H), head_bias = draw(2);
    layer.kind = Kind::lstm, layer.in = C, layer.out = layer.hidden = H, layer.first = w.data(), layer.second = u.data();
    layer.bias = b.data(), layer.h_0 = h.data(), layer.c_0 = c.data(), layer.narrow = narrow;
    dense.kind = Kind::dense, dense.in = H, dense.out = 2, dense.first = head.data(), dense.bias = head_bias.data();
  }
  std::vector<double> expected(const std::vector<float>& x, int T) const {
    const auto H = static_cast<std::size_t>(layer.hidden), C = static_cast<std::size_t>(layer.in);
    std::vector<double> hs(h.begin(), h.end()), cs(c.begin(), c.end()), y;
    const auto sigmoid = [](double a) { return 1 / (1 + std::exp(-a)); };
    for (std::size_t t = 0; t < std::size_t(T); ++t) {
      std::vector<double> a(4 * H);
      for (std::size_t r = 0; r < 4 * H; ++r) {
        a[r] = b[r];
        for (std::size_t k = 0; k < C; ++k) a[r] += double(w[r * C + k]) * double(x[t * C + k]);
        for (std::size_t k = 0; k < H; ++k) a[r] += double(u[r * H + k]) * hs[k];
      }
      for (std::size_t k = 0; k < H; ++k) {
        cs[k] = sigmoid(a[H + k]) * cs[k] + sigmoid(a[k]) * std::tanh(a[2 * H + k]);
        hs[k] = sigmoid(a[3 * H + k]) * std::tanh(cs[k]);
      }
      for (std::size_t o = 0; o < 2; ++o) {
        double sum = head_bias[o];
        for (std::size_t k = 0; k < H; ++k) sum += double(head[o * H + k]) * hs[k];
        y.push_back(sum);
      }
    }
    return y;
  }
};

bool fits(int C, int H, bool narrow) {
  constexpr int T = 70;
  const Made made(C, H, narrow);
  std::vector<float> x(static_cast<std::size_t>(T * C));
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = std::sin(0.37f * float(k));
  const auto plan = std::make_shared<const Plan>(UNDERTOW_STREAMING, std::vector<Stage>{made.layer, made.dense}, 0);
  Streams whole(plan, 1), cut(plan, 1), many(plan, 5);
  std::vector<float> y(2 * T), parts(2 * T), xs, ys(2 * T * 5);
  whole.process(x.data(), T, y.data());
  for (int t = 0; t < T; ++t) cut.process(x.data() + t * C, 1, parts.data() + 2 * t);
  for (int t = 0; t < T; ++t)
    for (int n = 0; n < 5; ++n) xs.insert(xs.end(), x.begin() + t * C, x.begin() + (t + 1) * C);
  many.process(xs.data(), T, ys.data());
  double error = 0;
  bool same = true;
  const std::vector<double> truth = made.expected(x, T);
  for (std::size_t k = 0; k < y.size(); ++k) {
    error = std::fmax(error, std::fabs(double(y[k]) - truth[k]));
    same = same && y[k] == parts[k] && y[k] == ys[(k / 2 * 5 + 3) * 2 + k % 2];
  }
  const bool good = same && error <= (narrow ? 1e-3 : 3e-7);
  std::printf("C %d H %d %s: error %.1e, bits %s%s\n", C, H, narrow ? "int16" : "float32", error,
              same ? "the same" : "DIFFER", good ? "" : "  FAILED");
  return good;
}

}  // namespace

int main() {
  bool good = true;
  for (bool narrow : {false, true})
    for (int C : {1, 3})
      for (int H : {1, 3, 4, 8, 16, 17, 20, 31, 40, 64, 65, 88}) good = fits(C, H, narrow) && good;
  return good ? 0 : 1;
}
