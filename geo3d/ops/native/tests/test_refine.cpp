// A step of a refinement against plain loops in double precision.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_pack(int32_t, int64_t, int64_t, const float*, float*);
GEO3D_API int32_t geo3d_refine(int32_t, int64_t, int64_t, int64_t, int64_t, int64_t, const float*, const int64_t*,
                               const float*, const float*, const float*, const float*, const float*, const float*,
                               const float*, const float*, const float*, const float*, const float*, const float*,
                               float*, float*, float*);

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Row r of w (rows, depth) times x, plus the bias.
double product(const std::vector<float>& w, const std::vector<float>& bias, int64_t r, const std::vector<double>& x) {
  double sum = bias[(size_t)r];
  for (size_t i = 0; i < x.size(); ++i) sum += w[(size_t)r * x.size() + i] * x[i];
  return sum;
}

std::vector<float> packed(const std::vector<float>& w, int64_t rows, int64_t depth) {
  std::vector<float> out((size_t)((rows + 31) / 32 * 32 * depth));
  CHECK(geo3d_pack(1, rows, depth, w.data(), out.data()) == 0);
  return out;
}

void step(int threads, std::vector<int64_t> ptr, int64_t joints, int64_t channels, int64_t k) {
  int64_t clouds = (int64_t)ptr.size() - 1, points = ptr.back(), rows = clouds * joints, gates = 3 * channels;
  auto pos = numbers(3 * points, 1), seen = numbers(points * channels, 2), of_place = numbers(3 * channels, 3);
  auto others = numbers(joints * joints, 4), update = numbers(gates * 2 * channels, 5), keep = numbers(gates * channels, 6);
  auto update_bias = numbers((gates + 31) / 32 * 32, 7), keep_bias = numbers((gates + 31) / 32 * 32, 8);
  auto move = numbers(joints * channels * 4, 9), shift = numbers(joints * 4, 10), gate = numbers(2 * channels + 1, 11);
  auto before = numbers(rows * 4, 12), state = numbers(rows * channels, 13);
  std::vector<float> after((size_t)rows * 4), next((size_t)(rows * channels)), logit((size_t)clouds);
  auto run = [&] {
    return geo3d_refine(threads, clouds, joints, channels, points, k, pos.data(), ptr.data(), seen.data(),
                        of_place.data(), others.data(), packed(update, gates, 2 * channels).data(), update_bias.data(),
                        packed(keep, gates, channels).data(), keep_bias.data(), move.data(), shift.data(), gate.data(),
                        before.data(), state.data(), after.data(), next.data(), logit.data());
  };
  CHECK(run() == 0);
  for (int64_t b = 0; b < clouds; ++b) {
    std::vector<double> least((size_t)channels, 1e9), most((size_t)channels, -1e9);
    for (int64_t j = 0; j < joints; ++j) {
      int64_t row = b * joints + j;
      const float* at = before.data() + 4 * row;
      std::vector<std::pair<float, int64_t>> order;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        float sum = 0;
        for (int64_t d = 0; d < 3; ++d) sum += (pos[3 * i + d] - at[d]) * (pos[3 * i + d] - at[d]);
        order.push_back({sum, i});
      }
      std::sort(order.begin(), order.end());
      std::vector<double> x, old;
      for (int64_t c = 0; c < channels; ++c) {
        double best = -1e9, own = 0;
        for (int64_t i = 0; i < std::min<int64_t>(k, (int64_t)order.size()); ++i)
          best = std::max(best, (double)seen[order[i].second * channels + c]);
        for (int64_t d = 0; d < 3; ++d) own += of_place[d * channels + c] * at[d];
        x.push_back(std::max(0.0, best - own)), old.push_back(state[row * channels + c]);
      }
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t m = 0; m < joints; ++m)
          sum += others[j * joints + m] * state[(b * joints + m) * channels + c];
        x.push_back(sum);
      }
      double moved[4] = {};
      for (int64_t c = 0; c < channels; ++c) {
        double reset = sigmoid(product(update, update_bias, c, x) + product(keep, keep_bias, c, old));
        int64_t u = channels + c, n = 2 * channels + c;
        double stay = sigmoid(product(update, update_bias, u, x) + product(keep, keep_bias, u, old));
        double fresh = std::tanh(product(update, update_bias, n, x) + reset * product(keep, keep_bias, n, old));
        double now = (1 - stay) * fresh + stay * old[c];
        CHECK(std::fabs(next[row * channels + c] - now) < 1e-4);
        for (int d = 0; d < 4; ++d) moved[d] += now * move[(j * channels + c) * 4 + d];
        least[c] = std::min(least[c], now), most[c] = std::max(most[c], now);
      }
      for (int d = 0; d < 4; ++d) {
        double expected = at[d] + moved[d] + shift[4 * j + d];
        if (d == 3) expected = std::min(std::max(expected, -8.0), 2.0);
        CHECK(std::fabs(after[4 * row + d] - expected) < 1e-3);
      }
    }
    double expected = gate[2 * channels];
    for (int64_t c = 0; c < channels; ++c) expected += gate[c] * least[c] + gate[channels + c] * most[c];
    CHECK(std::fabs(logit[b] - expected) < 1e-3);
  }
  for (std::vector<float>* values : {&before, &state, &seen, &update, &keep, &update_bias}) {
    float kept = std::exchange((*values)[0], std::numeric_limits<float>::quiet_NaN());
    CHECK(run() == geo3d::NOT_FINITE);
    (*values)[0] = kept;
  }
  CHECK(run() == 0);
  ptr[0] = 1;
  CHECK(run() == geo3d::BAD_OFFSETS);
}

}  // namespace

void test_refine() {
  for (int threads : {1, 3})
    for (int64_t channels : {16, 48})
      for (int64_t k : {1, 2, 9}) step(threads, {0, 40}, 21, channels, k), step(threads, {0, 3, 50, 51}, 5, channels, k);
}
