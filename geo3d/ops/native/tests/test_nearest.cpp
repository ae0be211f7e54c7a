// The three nearest centres against a loop over all of them.
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_three_nearest(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, const float*,
                                      const int64_t*, int64_t*, float*);

void test_nearest() {
  std::vector<int64_t> ptr = {0, 1, 40, 700, 705}, center_ptr = {0, 1, 3, 103, 106};
  std::vector<float> pos = numbers(3 * 705, 4), centers = numbers(3 * 106, 5);
  for (float& value : centers) value = std::floor(value * 4.0f) / 4.0f;  // some in one place
  for (float& value : pos) value = std::floor(value * 64.0f) / 64.0f;  // distances are exact: equal ones are equal
  for (int32_t threads : {1, 3}) {
    std::vector<int64_t> index(3 * 705, -1);
    std::vector<float> weight(3 * 705, -1.0f);
    CHECK(geo3d_three_nearest(threads, 705, 106, 4, pos.data(), ptr.data(), centers.data(), center_ptr.data(),
                              index.data(),
                              weight.data()) == geo3d::OK);
    for (size_t b = 0; b < 4; ++b)
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        auto distance = [&](int64_t c) {
          double sum = 0;
          for (int64_t d = 0; d < 3; ++d)
            sum += std::pow((double)pos[(size_t)(3 * i + d)] - centers[(size_t)(3 * c + d)], 2);
          return sum;
        };
        std::vector<bool> taken(106);
        double total = 0, inverse[3];
        for (int j = 0; j < 3; ++j) {
          int64_t best = -1;
          for (int64_t c = center_ptr[b]; c < center_ptr[b + 1]; ++c)
            if (!taken[(size_t)c] && (best < 0 || distance(c) < distance(best))) best = c;
          int64_t found = index[(size_t)(3 * i + j)];
          inverse[j] = best < 0 ? 0 : 1 / (distance(best) + 1e-8);
          total += inverse[j];
          CHECK(found == (best < 0 ? center_ptr[b] : best));
          if (best >= 0) taken[(size_t)best] = true;
        }
        for (int j = 0; j < 3; ++j) CHECK(std::abs(weight[(size_t)(3 * i + j)] - inverse[j] / total) < 1e-5);
      }
  }
  int64_t index[6], offsets[2] = {0, 2}, offsets_c[2] = {0, 4};
  float weight[6];
  auto status = [&] {
    return geo3d_three_nearest(2, 2, 4, 1, pos.data(), offsets, centers.data(), offsets_c, index, weight);
  };
  CHECK(status() == geo3d::OK);
  offsets[1] = 3;
  CHECK(status() == geo3d::BAD_OFFSETS);
  offsets[1] = 2, offsets_c[1] = 0;
  CHECK(status() == geo3d::BAD_OFFSETS);
  offsets_c[1] = 4, pos[5] = INFINITY;
  CHECK(status() == geo3d::NOT_FINITE);
  pos[5] = 0, centers[11] = NAN;
  CHECK(status() == geo3d::NOT_FINITE);
}
