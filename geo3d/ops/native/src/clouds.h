// Clouds stored one after another: their offsets, and their coordinates as three arrays.
#pragma once
#include <algorithm>
#include <cstdint>

#include "api.h"
#include "parallel.h"
#include "simd.h"

namespace geo3d {

// Whether ptr rises from 0 to rows without an empty cloud; rows are numbered in 32 bits.
inline bool valid_offsets(const int64_t* ptr, int64_t clouds, int64_t rows) {
  if (clouds < 1 || rows >= INT32_MAX - 1024 || ptr[0] != 0 || ptr[clouds] != rows) return false;
  for (int64_t b = 0; b < clouds; ++b)
    if (ptr[b] >= ptr[b + 1]) return false;
  return true;
}

// Calls f(cloud, from, to) for the rows of [begin, end) that lie in each cloud.
template <class F>
void each_cloud(const int64_t* ptr, int64_t clouds, int64_t begin, int64_t end, F&& f) {
  int64_t b = std::upper_bound(ptr, ptr + clouds + 1, begin) - ptr - 1;
  for (; begin < end; ++b) {
    int64_t stop = std::min(end, ptr[b + 1]);
    f(b, begin, stop);
    begin = stop;
  }
}

inline bool all_finite(const float* values, int64_t count) {
  Floats sum{};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += load(values + i) * 0.0f;  // not a number if one is not finite
  sum += load_part(values + i, count - i, Floats{}) * 0.0f;
  for (int lane = 0; lane < LANES; ++lane)
    if (sum[lane] != 0.0f) return false;
  return true;
}

// Bits of the lanes below n.
inline uint32_t first_lanes(int64_t n) { return (1u << std::min<int64_t>(LANES, std::max<int64_t>(n, 0))) - 1; }

struct Point {
  float x, y, z;
};
inline Point point(const float* p) { return {p[0], p[1], p[2]}; }

// Three arrays of coordinates, with room for one vector beyond the last row.
class Columns {
 public:
  explicit Columns(int64_t rows) : stride_(round_up(rows, LANES) + LANES), values_(3 * stride_) {
    for (float* column : {x(), y(), z()}) std::fill(column + rows, column + stride_, 0.0f);
  }
  float* x() const { return values_; }
  float* y() const { return values_ + stride_; }
  float* z() const { return values_ + 2 * stride_; }
  float* column(int d) const { return values_ + d * stride_; }
  void set(int64_t row, Point p) { x()[row] = p.x, y()[row] = p.y, z()[row] = p.z; }
  Point get(int64_t row) const { return {x()[row], y()[row], z()[row]}; }
  Floats squared_distances(int64_t row, Point to) const {
    Floats dx = load(x() + row) - to.x, dy = load(y() + row) - to.y, dz = load(z() + row) - to.z;
    return dx * dx + dy * dy + dz * dz;
  }

 private:
  int64_t stride_;
  Scratch<float> values_;
};

// Splits rows of (x, y, z) into three arrays, with all threads.
inline void split(int threads, const float* pos, int64_t rows, Columns& columns, Fault& fault) {
  constexpr int64_t BLOCK = 4096;
  parallel(threads, ceil_div(rows, BLOCK), [&](int64_t block) {
    int64_t from = block * BLOCK, to = std::min(rows, from + BLOCK);
    if (!all_finite(pos + 3 * from, 3 * (to - from))) fault.raise(NOT_FINITE);
    for (int64_t i = from; i < to; ++i) columns.set(i, point(pos + 3 * i));
  });
}

}  // namespace geo3d
