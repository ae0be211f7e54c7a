#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_fake_quantize(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const float*,
                                      const float*, float, float, float*);
GEO3D_API int32_t geo3d_fake_quantize_backward(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const float*,
                                               const float*, const float*, float, float, float*, float*, float*);
GEO3D_API int32_t geo3d_quantize(int32_t, int64_t, int64_t, int64_t, int64_t, const float*, const float*, const float*,
                                 float, float, uint8_t*);

namespace {

using Values = std::vector<float>;

void one_matrix(int threads, int64_t rows, int64_t columns, int64_t groups, bool by_column, bool with_offset, float low,
                float high) {
  Values x = numbers(rows * columns, 1), grad = numbers(rows * columns, 2), step = numbers(groups, 3);
  Values offset = numbers(groups, 4), out(x.size()), of_x(x.size()), of_step(step.size()), of_offset(step.size());
  std::vector<uint8_t> codes(x.size());
  std::vector<double> steps(step.size()), offsets(step.size());
  for (float& s : step) s = 0.05f + 0.2f * std::fabs(s);
  const float* given = with_offset ? offset.data() : nullptr;
  CHECK(geo3d_fake_quantize(threads, rows, columns, groups, by_column, x.data(), step.data(), given, low, high,
                            out.data()) == 0);
  CHECK(geo3d_fake_quantize_backward(threads, rows, columns, groups, by_column, grad.data(), x.data(), step.data(), given,
                                     low, high, of_x.data(), of_step.data(), of_offset.data()) == 0);
  CHECK(geo3d_quantize(threads, rows, columns, groups, by_column, x.data(), step.data(), given, low, high,
                       codes.data()) == 0);
  for (int64_t i = 0; i < rows * columns; ++i) {
    int64_t group = by_column ? i % columns : i / (rows * columns / groups);
    float s = step[group], o = with_offset ? offset[group] : 0.0f, t = (x[i] - o) / s;
    float code = std::nearbyint(std::fmin(std::fmax(t, low), high));
    volatile float product = code * s;  // rounded before the sum
    CHECK(out[i] == product + o);
    CHECK(codes[i] == (uint8_t)(int32_t)code);
    bool inside = t > low && t < high;
    CHECK(of_x[i] == (inside ? grad[i] : 0.0f));
    steps[group] += (double)grad[i] * (inside ? code - t : code), offsets[group] += inside ? 0.0f : grad[i];
  }
  for (size_t g = 0; g < steps.size(); ++g) {
    CHECK(std::fabs(steps[g] - of_step[g]) < 1e-5 * high * (double)(1 + rows * columns / groups));
    CHECK(std::fabs(offsets[g] - of_offset[g]) < 1e-5 * (double)(1 + rows * columns / groups));
  }
}

}  // namespace

void test_quantize() {
  for (int threads : {1, 3})
    for (int64_t columns : {1, 3, 8, 16, 23, 64, 300})
      for (int64_t rows : {0, 1, 6, 210})
        for (bool with_offset : {false, true}) {
          float low = with_offset ? 0.0f : -4.0f, high = with_offset ? 15.0f : 3.0f;
          one_matrix(threads, rows, columns, 1, false, with_offset, low, high);
          one_matrix(threads, rows, columns, columns, true, with_offset, low, high);
          if (rows % 3 == 0) one_matrix(threads, rows, columns, 3, false, with_offset, low, high);
        }
  one_matrix(2, 3, 9000, 3, false, true, -63.0f, 63.0f);
  one_matrix(2, 500, 90, 1, false, true, 0.0f, 255.0f);
  float step = 0.5f;
  uint8_t code;
  for (float far : {INFINITY, -INFINITY, 3e38f}) {
    CHECK(geo3d_quantize(1, 1, 1, 1, 0, &far, &step, nullptr, -128, 127, &code) == 0);
    CHECK((int8_t)code == (far > 0 ? 127 : -128));
  }
  float nothing = NAN;
  CHECK(geo3d_quantize(1, 1, 1, 1, 0, &nothing, &step, nullptr, 0, 255, &code) == geo3d::NOT_FINITE);
}
