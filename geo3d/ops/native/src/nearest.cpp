// The three centres nearest to each point, and the weights that interpolate between them.
#include "exact.h"

#include <cmath>

#include "clouds.h"

namespace geo3d {
namespace {

// LANES points at once: a vector for each coordinate, and the three best so far in order.
struct Three {
  Floats distance[3];
  Ints index[3];

  // Inserts a centre; equally near ones stay after those inserted before.
  void insert(Floats d, Ints i) {
    Ints first = d < distance[0], second = d < distance[1], third = d < distance[2];
    distance[2] = second ? distance[1] : third ? d : distance[2], index[2] = second ? index[1] : third ? i : index[2];
    distance[1] = first ? distance[0] : second ? d : distance[1], index[1] = first ? index[0] : second ? i : index[1];
    distance[0] = first ? d : distance[0], index[0] = first ? i : index[0];
  }
};

Three nearest_three(Floats x, Floats y, Floats z, const float* centers, int64_t from, int64_t to) {
  Three best;
  for (int j = 0; j < 3; ++j) best.distance[j] = splat(0.0f) + INFINITY, best.index[j] = splat((int32_t)from);
  constexpr uint32_t ALL = (uint32_t)((1ull << LANES) - 1);
  for (int64_t c = from; c < to; ++c) {
    Point p = point(centers + 3 * c);
    Floats dx = p.x - x, dy = p.y - y, dz = p.z - z;
    Floats d = dx * dx + dy * dy + dz * dz;
    if (less_equal_bits(best.distance[2], d) != ALL) best.insert(d, splat((int32_t)c));
  }
  return best;
}

void write(const Three& best, int64_t count, int64_t* index, float* weight) {
  Floats inverse[3];
  for (int j = 0; j < 3; ++j) inverse[j] = 1.0f / (best.distance[j] + 1e-8f);
  Floats sum = inverse[0] + inverse[1] + inverse[2];
  for (int j = 0; j < 3; ++j) {
    Floats share = inverse[j] / sum;
    for (int64_t lane = 0; lane < count; ++lane) {
      index[3 * lane + j] = best.index[j][lane];
      weight[3 * lane + j] = share[lane];
    }
  }
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// index (rows x 3): flat rows of centers; weight (rows x 3). With fewer than three, the first repeats with weight zero.
GEO3D_API int32_t geo3d_three_nearest(int32_t threads, int64_t rows, int64_t others, int64_t clouds, const float* pos,
                                      const int64_t* ptr, const float* centers, const int64_t* center_ptr,
                                      int64_t* index,
                                      float* weight) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, rows) || !valid_offsets(center_ptr, clouds, others)) return BAD_OFFSETS;
    if (!all_finite(pos, 3 * rows) || !all_finite(centers, 3 * others)) return NOT_FINITE;
    constexpr int64_t BLOCK = 256;
    parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
      int64_t end = std::min(rows, (block + 1) * BLOCK);
      each_cloud(ptr, clouds, block * BLOCK, end, [&](int64_t b, int64_t from, int64_t to) {
        for (int64_t i = from; i < to; i += LANES) {
          int64_t count = std::min<int64_t>(LANES, to - i);
          Floats x{}, y{}, z{};
          for (int64_t lane = 0; lane < count; ++lane) {
            Point p = point(pos + 3 * (i + lane));
            x[lane] = p.x, y[lane] = p.y, z[lane] = p.z;
          }
          write(nearest_three(x, y, z, centers, center_ptr[b], center_ptr[b + 1]), count, index + 3 * i,
                weight + 3 * i);
        }
      });
    });
    return OK;
  });
}
