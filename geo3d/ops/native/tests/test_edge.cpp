#include <algorithm>
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_edge_evaluate(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, const float*,
                                      const float*, float, float*, int64_t);
GEO3D_API int32_t geo3d_edge_collect(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, const float*,
                                     const float*, float*, float*, uint8_t*, double*);
GEO3D_API int32_t geo3d_edge_activate(int32_t, int64_t, int64_t, const float*, const float*, const float*, float, float*);
GEO3D_API int32_t geo3d_edge_reduce(int32_t, int64_t, int64_t, const float*, const float*, const float*, const float*,
                                    float, double*);
GEO3D_API int32_t geo3d_edge_backward(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, const float*,
                                      const uint8_t*, const float*, const float*, const float*, const float*,
                                      const float*, const float*, const float*, const float*, float, float*);

namespace {

using Values = std::vector<float>;

void close(double found, double expected, double scale = 1) { CHECK(std::fabs(found - expected) < 2e-4 * scale); }

// Two clouds, of `first` and `rows - first` points.
std::vector<int64_t> two_clouds(int64_t rows, int64_t first, int64_t k) {
  std::vector<int64_t> neighbors((size_t)(rows * k));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < k; ++j) {
      int64_t start = i < first ? 0 : first, size = i < first ? first : rows - first;
      neighbors[i * k + j] = start + (i * 7 + j * j * 3) % size;
    }
  return neighbors;
}

void one_layer(int threads, int64_t rows, int64_t first, int64_t k, int64_t channels) {
  Values ab = numbers(rows * 2 * channels, 1), scale = numbers(channels, 2), shift = numbers(channels, 3);
  Values near_a = numbers(channels, 4), near_b = numbers(channels, 5), grad = numbers(rows * channels, 6);
  Values m1 = numbers(channels, 7), m2 = numbers(channels, 8), middle = numbers(channels, 9), middle_b(middle);
  std::vector<int64_t> neighbors = two_clouds(rows, first, k);
  size_t size = (size_t)(rows * channels);
  Values fixed(size), top(size), sum(size), out(size), grad_ab(2 * size);
  std::vector<uint8_t> slot(size);
  std::vector<double> totals((size_t)(2 * channels)), reduced(totals), expected(totals), back(2 * size, 0.0);
  CHECK(geo3d_edge_evaluate(threads, rows, k, channels, ab.data(), neighbors.data(), scale.data(), shift.data(), 0.2f,
                            fixed.data(), channels) == 0);
  CHECK(geo3d_edge_collect(threads, rows, k, channels, ab.data(), neighbors.data(), near_a.data(), near_b.data(), top.data(),
                           sum.data(), slot.data(), totals.data()) == 0);
  CHECK(geo3d_edge_activate(threads, rows, channels, top.data(), scale.data(), shift.data(), 0.2f, out.data()) == 0);
  CHECK(geo3d_edge_reduce(threads, rows, channels, grad.data(), out.data(), top.data(), near_a.data(), 0.2f,
                          reduced.data()) == 0);
  for (int64_t c = 0; c < channels; ++c) middle_b[c] = middle[c] + near_b[c];
  CHECK(geo3d_edge_backward(threads, rows, k, channels, ab.data(), neighbors.data(), sum.data(), slot.data(),
                            grad.data(),
                            out.data(), scale.data(), m1.data(), m2.data(), middle.data(), near_a.data(),
                            middle_b.data(), 0.2f, grad_ab.data()) == 0);
  std::vector<double> plain((size_t)(2 * channels), 0.0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      size_t at = (size_t)(i * channels + c);
      auto edge = [&](int64_t j) {
        return (double)ab[i * 2 * channels + c] + ab[neighbors[i * k + j] * 2 * channels + channels + c];
      };
      int64_t best = 0;
      double added = 0;
      for (int64_t j = 0; j < k; ++j) {
        double y = edge(j) - near_a[c] - near_b[c];
        if (ab[neighbors[i * k + j] * 2 * channels + channels + c] > ab[neighbors[i * k + best] * 2 * channels + channels + c]) best = j;
        added += y, expected[c] += y, expected[channels + c] += y * y;
      }
      CHECK(slot[at] == best);
      double z = edge(best) * scale[c] + shift[c], y = z > 0 ? z : 0.2 * z;
      close(top[at], edge(best)), close(sum[at], added, (double)k), close(fixed[at], y), close(out[at], y);
      double dz = out[at] > 0 ? grad[at] : 0.2 * grad[at];
      plain[c] += dz, plain[channels + c] += dz * (edge(best) - near_a[c]);
      for (int64_t j = 0; j < k; ++j) {
        double d = (j == best ? scale[c] * dz : 0) - m1[c] - m2[c] * (edge(j) - near_a[c] - near_b[c] - middle[c]);
        back[i * 2 * channels + c] += d, back[neighbors[i * k + j] * 2 * channels + channels + c] += d;
      }
    }
  for (size_t c = 0; c < totals.size(); ++c) {
    close(totals[c], expected[c], (double)(rows * k)), close(reduced[c], plain[c], (double)rows);
  }
  for (size_t i = 0; i < back.size(); ++i) close(grad_ab[i], back[i], (double)(rows + k));
}

}  // namespace

void test_edge() {
  for (int threads : {1, 3})
    for (int64_t k : {1, 5, 20})
      for (int64_t channels : {16, 48, 80}) {
        one_layer(threads, 40, 15, k, channels);
        one_layer(threads, 700, 300, k, channels);
      }
  Values ab = numbers(3 * 32, 1), ones(16, 1.0f), out(3 * 16);
  for (int64_t wrong : {int64_t(-1), int64_t(3), INT64_MAX, INT64_MIN}) {
    int64_t neighbors[] = {0, wrong, 2};
    CHECK(geo3d_edge_evaluate(2, 3, 1, 16, ab.data(), neighbors, ones.data(), ones.data(), 0.2f, out.data(), 16) ==
          geo3d::BAD_INDEX);
  }
}
