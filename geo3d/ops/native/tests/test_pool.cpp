#include <algorithm>
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_linear_pool(int32_t, int64_t, int64_t, int64_t, int64_t, const int64_t*, const float*,
                                    const float*, const float*, const float*, float, float*);
GEO3D_API int32_t geo3d_linear_sums(int32_t, int64_t, int64_t, int64_t, const float*, const float*, const float*, float*,
                                    double*);
GEO3D_API int32_t geo3d_pool(int32_t, int64_t, int64_t, int64_t, const int64_t*, const float*, const float*,
                             const float*, float, float*, int64_t*);
GEO3D_API int32_t geo3d_pool_reduce(int32_t, int64_t, int64_t, int64_t, const int64_t*, const int64_t*, const int64_t*,
                                    const float*, const float*, const float*, const float*, const float*, float,
                                    double*);
GEO3D_API int32_t geo3d_pool_backward(int32_t, int64_t, int64_t, int64_t, const int64_t*, const int64_t*,
                                      const int64_t*, const float*, const float*, const float*, const float*,
                                      const float*, const float*, const float*, float, const float*, const float*,
                                      float*, float*);

namespace {

using Values = std::vector<float>;

void close(double found, double expected, double scale = 1) { CHECK(std::fabs(found - expected) < 2e-4 * scale); }

void one_layer(int threads, const std::vector<int64_t>& ptr, int64_t channels, int64_t depth) {
  int64_t clouds = (int64_t)ptr.size() - 1, rows = ptr.back();
  Values x = numbers(rows * depth, 1), w = numbers(channels * depth, 2), scale = numbers(channels, 3);
  Values shift = numbers(channels, 4), mean = numbers(channels, 5), m1 = numbers(channels, 6), m2 = numbers(channels, 7);
  Values grad = numbers(clouds * 2 * channels, 8), h((size_t)(rows * channels));
  std::vector<int64_t> cloud_of((size_t)rows), winner((size_t)(clouds * channels));
  for (int64_t b = 0; b < clouds; ++b) std::fill(cloud_of.begin() + ptr[b], cloud_of.begin() + ptr[b + 1], b);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      float sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += x[i * depth + k] * w[c * depth + k];
      h[i * channels + c] = sum;
    }
  Values fused((size_t)(clouds * 2 * channels)), pooled(fused), grad_x((size_t)(rows * depth)), grad_w(w.size());
  std::vector<double> sums((size_t)(2 * channels)), reduced(sums), expected(sums), plain(sums);
  std::vector<double> of_x(grad_x.size()), of_w(w.size());
  CHECK(geo3d_linear_pool(threads, rows, channels, depth, clouds, ptr.data(), x.data(), w.data(), scale.data(),
                          shift.data(), 0.2f, fused.data()) == 0);
  CHECK(geo3d_pool(threads, rows, channels, clouds, ptr.data(), h.data(), scale.data(), shift.data(), 0.2f,
                   pooled.data(), winner.data()) == 0);
  Values again(h.size());
  CHECK(geo3d_linear_sums(threads, rows, channels, depth, x.data(), w.data(), mean.data(), again.data(), sums.data()) == 0);
  for (size_t i = 0; i < h.size(); ++i) close(again[i], h[i]);
  CHECK(geo3d_pool_reduce(threads, rows, channels, clouds, ptr.data(), cloud_of.data(), winner.data(), h.data(),
                          grad.data(), scale.data(), shift.data(), mean.data(), 0.2f, reduced.data()) == 0);
  CHECK(geo3d_pool_backward(threads, rows, channels, depth, ptr.data(), cloud_of.data(), winner.data(), h.data(),
                            grad.data(), scale.data(), shift.data(), mean.data(), m1.data(), m2.data(), 0.2f, x.data(),
                            w.data(), grad_x.data(), grad_w.data()) == 0);
  auto act = [](double z) { return z > 0 ? z : 0.2 * z; };
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) {
      double top = -INFINITY, sum = 0;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        double y = act((double)h[i * channels + c] * scale[c] + shift[c]);
        top = std::max(top, y), sum += y;
      }
      double size = (double)(ptr[b + 1] - ptr[b]);
      for (const Values& found : {fused, pooled}) {
        close(found[b * 2 * channels + c], top), close(found[(b * 2 + 1) * channels + c], sum / size);
      }
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        double value = h[i * channels + c], z = value * scale[c] + shift[c], d = grad[(b * 2 + 1) * channels + c] / size;
        if (winner[b * channels + c] == i) close(act(z), top), d += grad[b * 2 * channels + c];
        d = z > 0 ? d : 0.2 * d;
        expected[c] += value - mean[c], expected[channels + c] += (value - mean[c]) * (value - mean[c]);
        plain[c] += d, plain[channels + c] += d * (value - mean[c]);
        d = scale[c] * (d - m1[c] - (value - mean[c]) * m2[c]);
        for (int64_t k = 0; k < depth; ++k)
          of_x[i * depth + k] += d * w[c * depth + k], of_w[c * depth + k] += d * x[i * depth + k];
      }
    }
  for (size_t c = 0; c < sums.size(); ++c) close(sums[c], expected[c], (double)rows), close(reduced[c], plain[c], (double)rows);
  for (size_t i = 0; i < of_x.size(); ++i) close(grad_x[i], of_x[i], (double)channels);
  for (size_t i = 0; i < of_w.size(); ++i) close(grad_w[i], of_w[i], (double)rows);
}

}  // namespace

void test_pool() {
  for (int threads : {1, 3})
    for (int64_t channels : {16, 48, 144})
      for (int64_t depth : {1, 20, 70}) {
        one_layer(threads, {0, 1}, channels, depth);
        one_layer(threads, {0, 7, 8, 230, 600}, channels, depth);
      }
  Values x = numbers(32, 1), ones(16, 1.0f), out(64);
  int64_t falling[] = {0, 2, 1}, empty[] = {0, 0, 2}, beyond[] = {0, 1, 3};
  for (int64_t* ptr : {falling, empty, beyond})
    CHECK(geo3d_linear_pool(1, 2, 16, 1, 2, ptr, x.data(), x.data(), ones.data(), ones.data(), 0.2f, out.data()) ==
          geo3d::BAD_OFFSETS);
}
