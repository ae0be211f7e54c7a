#include <algorithm>
#include <cmath>
#include <numeric>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_sliding_sum(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, float, float*);
GEO3D_API int32_t geo3d_sliding_spread(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, float, float*);

namespace {

std::vector<int64_t> shuffled(int64_t channels) {
  std::vector<int64_t> order((size_t)channels);
  std::iota(order.begin(), order.end(), int64_t(0));
  for (int64_t i = channels - 1; i > 0; --i) std::swap(order[i], order[(i * i + 7) % (i + 1)]);
  return order;
}

void there_and_back(int threads, int64_t rows, int64_t channels, int64_t rank, bool ordered) {
  auto x = numbers(rows * channels, 1), grad = numbers(rows * rank, 2);
  auto order = shuffled(channels);
  if (!ordered) std::iota(order.begin(), order.end(), int64_t(0));
  const int64_t* given = ordered ? order.data() : nullptr;
  std::vector<float> out((size_t)(rows * rank)), back((size_t)(rows * channels));
  CHECK(geo3d_sliding_sum(threads, rows, channels, rank, x.data(), given, 0.5f, out.data()) == 0);
  CHECK(geo3d_sliding_spread(threads, rows, channels, rank, grad.data(), given, 0.5f, back.data()) == 0);
  for (int64_t i = 0; i < rows; ++i) {
    std::vector<double> sums((size_t)rank), spread((size_t)channels);
    for (int64_t r = 0; r < rank; ++r)
      for (int64_t p = r; p <= r + channels - rank; ++p) {
        sums[r] += 0.5 * x[i * channels + order[p]];
        spread[order[p]] += 0.5 * grad[i * rank + r];
      }
    for (int64_t r = 0; r < rank; ++r) CHECK(std::fabs(out[i * rank + r] - sums[r]) < 1e-4);
    for (int64_t c = 0; c < channels; ++c) CHECK(std::fabs(back[i * channels + c] - spread[c]) < 1e-4);
  }
}

void wrong_orders() {
  std::vector<float> x(12), out(12);
  for (int64_t wrong : {int64_t(-1), int64_t(4), int64_t(0), INT64_MIN, INT64_MAX}) {  // 0 is there already
    std::vector<int64_t> order = {0, 1, 2, wrong};
    CHECK(geo3d_sliding_sum(1, 3, 4, 2, x.data(), order.data(), 1.0f, out.data()) == geo3d::BAD_INDEX);
    CHECK(geo3d_sliding_spread(1, 3, 4, 2, x.data(), order.data(), 1.0f, out.data()) == geo3d::BAD_INDEX);
  }
}

}  // namespace

void test_sliding() {
  for (int threads : {1, 3})
    for (int64_t channels : {1, 5, 16, 33, 130})
      for (int64_t rank : {int64_t(1), channels / 4, channels / 2, channels - 1, channels})
        for (int64_t rows : {0, 1, 30, 200})
          if (rank > 0) there_and_back(threads, rows, channels, rank, rows != 30);
  wrong_orders();
}
