#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_gather_max(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const int64_t*, float*,
                                   uint8_t*);
GEO3D_API int32_t geo3d_scatter_max(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const uint8_t*,
                                    const int64_t*, float*);
GEO3D_API int32_t geo3d_scatter_sum(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const int64_t*, float*);

namespace {

void there_and_back(int threads, int64_t rows, int64_t k, int64_t channels, int64_t sources) {
  auto b = numbers(sources * channels, 1), grad = numbers(rows * channels, 2);
  std::vector<int64_t> neighbors((size_t)(rows * k));
  for (size_t e = 0; e < neighbors.size(); ++e) neighbors[e] = (int64_t)(e * e + 3 * e) % sources;
  std::vector<float> top((size_t)(rows * channels)), back((size_t)(sources * channels)), sums(back), expected(back), added(back);
  std::vector<uint8_t> slot(top.size());
  CHECK(geo3d_gather_max(threads, rows, k, channels, sources, b.data(), neighbors.data(), top.data(),
                         slot.data()) == 0);
  CHECK(geo3d_scatter_max(threads, rows, k, channels, sources, grad.data(), slot.data(), neighbors.data(), back.data()) == 0);
  CHECK(geo3d_scatter_sum(threads, rows, k, channels, sources, grad.data(), neighbors.data(), sums.data()) == 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      int64_t best = 0;
      for (int64_t j = 0; j < k; ++j) {
        if (b[neighbors[i * k + j] * channels + c] > b[neighbors[i * k + best] * channels + c]) best = j;
        added[neighbors[i * k + j] * channels + c] += grad[i * channels + c];
      }
      CHECK(slot[i * channels + c] == best && top[i * channels + c] == b[neighbors[i * k + best] * channels + c]);
      expected[neighbors[i * k + best] * channels + c] += grad[i * channels + c];
    }
  for (size_t i = 0; i < back.size(); ++i)
    CHECK(std::fabs(back[i] - expected[i]) < 1e-4 && std::fabs(sums[i] - added[i]) < 1e-3);
  for (int64_t wrong : {int64_t(-1), sources, INT64_MIN}) {
    neighbors[neighbors.size() / 2] = wrong;
    CHECK(geo3d_gather_max(threads, rows, k, channels, sources, b.data(), neighbors.data(), top.data(), nullptr) ==
          geo3d::BAD_INDEX);
  }
}

}  // namespace

void test_gather() {
  for (int threads : {1, 3})
    for (int64_t channels : {1, 3, 16, 37, 150})
      for (int64_t k : {1, 7}) there_and_back(threads, 30, k, channels, 12), there_and_back(threads, 700, k, channels, 700);
}
