#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_linear(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                               const float*, float*, int64_t);
GEO3D_API int32_t geo3d_multiply(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                                 float*, int64_t);
GEO3D_API int32_t geo3d_outer(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*);

namespace {

void close(float found, double expected) { CHECK(std::fabs(found - expected) < 1e-4); }

void products(int threads, int64_t rows, int64_t columns, int64_t depth) {
  auto a = numbers(rows * depth, 1), b = numbers(columns * depth, 2), bias = numbers(columns, 3);
  std::vector<float> c((size_t)(rows * columns)), d(c), transposed((size_t)(depth * columns));
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t k = 0; k < depth; ++k) transposed[k * columns + j] = b[j * depth + k];
  CHECK(geo3d_linear(threads, rows, columns, depth, a.data(), depth, b.data(), depth, bias.data(), c.data(), columns) == 0);
  CHECK(geo3d_multiply(threads, rows, columns, depth, a.data(), depth, transposed.data(), columns, d.data(), columns) == 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += (double)a[i * depth + k] * b[j * depth + k];
      close(c[i * columns + j], sum + bias[j]), close(d[i * columns + j], sum);
    }
}

void gradients_of_weights(int threads, int64_t rows, int64_t height, int64_t width) {
  auto a = numbers(rows * height, 4), b = numbers(rows * width, 5);
  std::vector<float> c((size_t)(height * width));
  CHECK(geo3d_outer(threads, rows, height, width, a.data(), height, b.data(), width, c.data()) == 0);
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j < width; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < rows; ++k) sum += (double)a[k * height + i] * b[k * width + j];
      close(c[i * width + j], sum);
    }
}

}  // namespace

void test_gemm() {
  for (int threads : {1, 3})
    for (int64_t rows : {1, 5, 12, 100})
      for (int64_t columns : {1, 16, 33, 70})
        for (int64_t depth : {1, 3, 64}) products(threads, rows, columns, depth);
  for (int threads : {1, 3})
    for (int64_t rows : {1, 256, 1100})
      for (int64_t height : {1, 13, 100})
        for (int64_t width : {1, 3, 48, 260}) gradients_of_weights(threads, rows, height, width);
}
