// Farthest point sampling against a loop over all points; the picks must be the same, ties and all.
#include <cmath>
#include <limits>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_farthest_points(int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*,
                                        const int64_t*, int64_t*);
GEO3D_API int32_t geo3d_farthest_from_centroid(int32_t, int64_t, int64_t, const float*, const int64_t*, int64_t*);

namespace {

using Rows = std::vector<int64_t>;

float squared(const float* a, const float* b) {
  volatile float x = (a[0] - b[0]) * (a[0] - b[0]);  // volatile: each square is rounded
  volatile float y = (a[1] - b[1]) * (a[1] - b[1]);
  volatile float z = (a[2] - b[2]) * (a[2] - b[2]);
  volatile float sum = x + y;
  return sum + z;
}

Rows plain(const std::vector<float>& pos, int64_t begin, int64_t end, int64_t first, int64_t count) {
  Rows picks;
  std::vector<float> distance((size_t)(end - begin), INFINITY);
  for (int64_t s = 0, pick = first; s < count; ++s) {
    if (s >= end - begin) {
      picks.push_back(picks[(size_t)(s - (end - begin))]);
      continue;
    }
    picks.push_back(begin + pick);
    float most = -2.0f;
    int64_t next = 0;
    for (int64_t i = 0; i < end - begin; ++i) {
      float d = squared(&pos[(size_t)(3 * (begin + i))], &pos[(size_t)(3 * (begin + pick))]);
      float& held = distance[(size_t)i];
      held = i == pick ? -1.0f : std::min(held, d);
      if (held > most) most = held, next = i;
    }
    pick = next;
  }
  return picks;
}

void compare(const std::vector<float>& pos, const Rows& ptr, int64_t count) {
  int64_t clouds = (int64_t)ptr.size() - 1;
  Rows first, expected;
  for (int64_t b = 0; b < clouds; ++b) {
    int64_t size = ptr[(size_t)b + 1] - ptr[(size_t)b];
    first.push_back(size / 3);
    Rows one = plain(pos, ptr[(size_t)b], ptr[(size_t)b + 1], size / 3, count);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  for (int32_t threads : {1, 3}) {
    Rows picks((size_t)(clouds * count), -1);
    CHECK(geo3d_farthest_points(threads, ptr.back(), clouds, count, pos.data(), ptr.data(), first.data(),
                                picks.data()) == geo3d::OK);
    CHECK(picks == expected);
  }
}

}  // namespace

void test_fps() {
  Rows ragged = {0, 1, 8, 141, 642, 643, 1300, 6000};
  std::vector<float> pos = numbers(3 * 6000, 1);
  for (int64_t count : {1, 5, 40, 300, 700}) compare(pos, ragged, count);
  for (float& value : pos) value = std::floor(value * 4.0f);  // many points in one place, many equal distances
  for (int64_t count : {40, 700}) compare(pos, ragged, count);
  pos[3 * 700] = 1e30f, pos[3 * 800] = -3e38f, pos[3 * 801] = 3e38f;  // squares and extents beyond the range
  compare(pos, ragged, 300);

  int64_t picks[4], first[2] = {0, 0}, ptr[3] = {0, 2, 5};
  auto status = [&] { return geo3d_farthest_points(2, 5, 2, 2, pos.data(), ptr, first, picks); };
  CHECK(status() == geo3d::OK);
  CHECK(geo3d_farthest_from_centroid(2, 5, 2, pos.data(), ptr, picks) == geo3d::OK);
  first[1] = 3;
  CHECK(status() == geo3d::BAD_INDEX);
  first[1] = -1;
  CHECK(status() == geo3d::BAD_INDEX);
  first[1] = 0, ptr[1] = 5;
  CHECK(status() == geo3d::BAD_OFFSETS);
  CHECK(geo3d_farthest_from_centroid(2, 5, 2, pos.data(), ptr, picks) == geo3d::BAD_OFFSETS);
  ptr[1] = 2, ptr[2] = 4;
  CHECK(status() == geo3d::BAD_OFFSETS);
  ptr[2] = 5;
  for (float bad : {INFINITY, -INFINITY, std::numeric_limits<float>::quiet_NaN()}) {
    pos[14] = bad;
    CHECK(status() == geo3d::NOT_FINITE);
    CHECK(geo3d_farthest_from_centroid(2, 5, 2, pos.data(), ptr, picks) == geo3d::NOT_FINITE);
  }
}
