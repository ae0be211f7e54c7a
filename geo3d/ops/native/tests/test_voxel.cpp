// Voxel groups against a map from cells to groups.
#include <array>
#include <cmath>
#include <map>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_voxel_groups(int32_t, int64_t, int64_t, const float*, const int64_t*, const double*, int64_t*,
                                     int64_t*, int64_t*, int64_t*);

namespace {

using Rows = std::vector<int64_t>;

void compare(const std::vector<float>& pos, const Rows& ptr, double size) {
  size_t rows = pos.size() / 3, clouds = ptr.size() - 1;
  Rows group, first, count, group_ptr = {0};
  for (size_t b = 0; b < clouds; ++b) {
    std::map<std::array<int64_t, 3>, int64_t> groups;
    double low[3];
    for (size_t d = 0; d < 3; ++d) {
      low[d] = INFINITY;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) low[d] = std::min(low[d], (double)pos[(size_t)(3 * i) + d]);
    }
    for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
      std::array<int64_t, 3> cell;
      for (size_t d = 0; d < 3; ++d) cell[d] = (int64_t)std::floor(((double)pos[(size_t)(3 * i) + d] - low[d]) / size);
      auto [place, fresh] = groups.try_emplace(cell, (int64_t)first.size());
      if (fresh) first.push_back(i), count.push_back(0);
      group.push_back(place->second);
      ++count[(size_t)place->second];
    }
    group_ptr.push_back((int64_t)first.size());
  }
  for (int32_t threads : {1, 3}) {
    Rows found[4] = {Rows(rows), Rows(rows), Rows(rows), Rows(clouds + 1)};
    CHECK(geo3d_voxel_groups(threads, (int64_t)rows, (int64_t)clouds, pos.data(), ptr.data(), &size, found[0].data(),
                             found[1].data(), found[2].data(), found[3].data()) == geo3d::OK);
    found[1].resize(first.size()), found[2].resize(first.size());
    CHECK(found[0] == group);
    CHECK(found[1] == first);
    CHECK(found[2] == count);
    CHECK(found[3] == group_ptr);
  }
}

}  // namespace

void test_voxel() {
  std::vector<float> pos = numbers(3 * 800, 6);
  for (double size : {0.01, 0.3, 1.0, 100.0, 1e-6}) compare(pos, {0, 1, 3, 500, 797, 800}, size);

  int64_t group[4], first[4], count[4], group_ptr[3], ptr[3] = {0, 1, 4};
  double size = 1e-9;
  auto status = [&] { return geo3d_voxel_groups(2, 4, 2, pos.data(), ptr, &size, group, first, count, group_ptr); };
  CHECK(status() == geo3d::OK && group_ptr[2] == -1);
  size = 5e-324;
  CHECK(status() == geo3d::OK && group_ptr[2] == -1);
  size = 0.1, ptr[1] = 0;
  CHECK(status() == geo3d::BAD_OFFSETS);
  ptr[1] = 1, pos[9] = NAN;
  CHECK(status() == geo3d::NOT_FINITE);
}
