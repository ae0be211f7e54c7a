// Ball query, by scan and by grid, against a loop over all points.
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_ball_query(int32_t, int64_t, int64_t, int64_t, int64_t, float, const float*, const int64_t*,
                                   const float*, const int64_t*, int64_t*, int64_t*);

namespace {

using Rows = std::vector<int64_t>;

float squared(const float* a, const float* b) {
  volatile float x = (a[0] - b[0]) * (a[0] - b[0]);  // volatile: each square is rounded
  volatile float y = (a[1] - b[1]) * (a[1] - b[1]);
  volatile float z = (a[2] - b[2]) * (a[2] - b[2]);
  volatile float sum = x + y;
  return sum + z;
}

void compare(const std::vector<float>& pos, const Rows& ptr, const std::vector<float>& centers, const Rows& center_ptr,
             float reach, int64_t k) {
  size_t queries = centers.size() / 3;
  Rows neighbors, count;
  for (size_t b = 0; b + 1 < ptr.size(); ++b)
    for (int64_t q = center_ptr[b]; q < center_ptr[b + 1]; ++q) {
      Rows inside;
      float least = INFINITY;
      auto distance = [&](int64_t i) { return squared(&pos[(size_t)(3 * i)], &centers[(size_t)(3 * q)]); };
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) least = std::min(least, distance(i));
      for (int64_t i = ptr[b]; i < ptr[b + 1] && (int64_t)inside.size() < k; ++i)
        if (distance(i) <= std::max(reach, least)) inside.push_back(i);
      count.push_back((int64_t)inside.size());
      inside.resize((size_t)k, inside[0]);
      neighbors.insert(neighbors.end(), inside.begin(), inside.end());
    }
  for (int32_t threads : {1, 3}) {
    Rows found(neighbors.size(), -1), found_count(queries, -1);
    CHECK(geo3d_ball_query(threads, ptr.back(), (int64_t)queries, (int64_t)ptr.size() - 1, k, reach, pos.data(),
                           ptr.data(), centers.data(), center_ptr.data(), found.data(),
                           found_count.data()) == geo3d::OK);
    CHECK(found == neighbors);
    CHECK(found_count == count);
  }
}

}  // namespace

void test_ball() {
  Rows ptr = {0, 1, 20, 557, 3557}, center_ptr = {0, 3, 4, 80, 600};  // the last cloud is large enough for a grid
  std::vector<float> pos = numbers(3 * 3557, 2), centers = numbers(3 * 600, 3);
  for (float& value : centers) value *= 1.2f;  // some lie outside
  centers[0] = 1e30f, centers[3 * 599 + 1] = -3e38f;
  for (int64_t k : {1, 7, 64})
    for (float radius : {1e-12f, 0.02f, 0.06f, 0.3f, 5.0f}) compare(pos, ptr, centers, center_ptr, radius * radius, k);
  centers[0] = centers[3 * 599 + 1] = 0.25f;
  for (float& value : pos) value = std::floor(value * 16.0f) / 16.0f;  // points on borders and in one place
  for (float& value : centers) value = std::floor(value * 16.0f) / 16.0f;
  for (int64_t k : {3, 64})
    for (float radius : {0.0625f, 0.125f}) compare(pos, ptr, centers, center_ptr, radius * radius, k);
  for (size_t i = 3 * 557; i < pos.size(); i += 3) pos[i] = pos[i + 1] = 0.5f;  // a line
  compare(pos, ptr, centers, center_ptr, 1e-4f, 16);

  int64_t neighbors[4], count[2], offsets[2] = {0, 5}, offsets_c[2] = {0, 2};
  auto status = [&] {
    return geo3d_ball_query(2, 5, 2, 1, 2, 1.0f, pos.data(), offsets, centers.data(), offsets_c, neighbors, count);
  };
  CHECK(status() == geo3d::OK);
  offsets_c[1] = 1;
  CHECK(status() == geo3d::BAD_OFFSETS);
  offsets_c[1] = 2, offsets[0] = 1;
  CHECK(status() == geo3d::BAD_OFFSETS);
  offsets[0] = 0, pos[14] = NAN;
  CHECK(status() == geo3d::NOT_FINITE);
  pos[14] = 0, centers[0] = INFINITY;
  CHECK(status() == geo3d::NOT_FINITE);
}
