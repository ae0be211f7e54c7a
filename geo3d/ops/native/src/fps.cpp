// Farthest point sampling. The points of a cloud are put into boxes of nearby points. A pick changes nothing in a box
// that is at least as far from it as the largest distance of the box's points so far. This is exact, because rounding
// keeps the order of distances.
#include "exact.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "clouds.h"

namespace geo3d {
namespace {

// Bits of a, each followed by two zeros (a < 1024).
inline uint32_t spread(uint32_t a) {
  a = (a | a << 16) & 0x030000ffu;
  a = (a | a << 8) & 0x0300f00fu;
  a = (a | a << 4) & 0x030c30c3u;
  return (a | a << 2) & 0x09249249u;
}

void bounds(const float* values, int64_t begin, int64_t end, float& low, float& high) {
  Floats least = splat(values[begin]), most = least;
  int64_t i = begin;
  for (; i + LANES <= end; i += LANES) least = min(load(values + i), least), most = max(load(values + i), most);
  low = high = values[begin];
  for (int lane = 0; lane < LANES; ++lane) low = std::min(low, least[lane]), high = std::max(high, most[lane]);
  for (; i < end; ++i) low = std::min(low, values[i]), high = std::max(high, values[i]);
}

// Number of a point's cell on a space-filling curve, for a grid over the cloud with 2^bits cells on each side.
class Curve {
 public:
  Curve(const Columns& points, int64_t size, int bits) : top_((float)((1 << bits) - 1)) {
    float extent = 0;
    for (int d = 0; d < 3; ++d) {
      float high;
      bounds(points.column(d), 0, size, low_[d], high);
      extent = std::max(extent, high - low_[d]);
    }
    scale_ = extent > 0 ? (float)(1 << bits) / extent : 0.0f;
  }
  uint32_t operator()(Point p) const {
    return spread(cell(p.x - low_[0])) << 2 | spread(cell(p.y - low_[1])) << 1 | spread(cell(p.z - low_[2]));
  }

 private:
  uint32_t cell(float offset) const {
    float a = offset * scale_;
    return (uint32_t)(int32_t)(a >= 0 ? (a < top_ ? a : top_) : 0);  // not a number where the extent overflows
  }
  float low_[3], scale_, top_;
};

inline float largest(Floats v) {
#if defined(__AVX512F__)
  __m256 a = _mm256_max_ps(_mm512_maskz_extractf32x8_ps(255, (__m512)v, 0),
                           _mm512_maskz_extractf32x8_ps(255, (__m512)v, 1));
#elif defined(__AVX2__)
  __m256 a = (__m256)v;
#endif
#if defined(__AVX2__)
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
#else
  return std::max(std::max(v[0], v[1]), std::max(v[2], v[3]));
#endif
}

// rank[i]: the place of point i along the curve.
void rank_along_curve(const Columns& points, int64_t size, std::vector<int32_t>& rank) {
  const int passes = size < 4096 ? 1 : 2, width = passes == 1 ? 9 : 12;  // 8 or 256 cells a side
  Curve curve(points, size, passes * width / 3);
  std::vector<uint32_t> keys((size_t)size);
  std::vector<int32_t> order((size_t)size), sorted((size_t)size), start((size_t)1 << width);
  for (int64_t i = 0; i < size; ++i) keys[i] = curve(points.get(i));
  std::iota(order.begin(), order.end(), 0);
  for (int shift = 0; shift < passes * width; shift += width) {
    auto digit = [&](int64_t i) { return keys[i] >> shift & ((1u << width) - 1); };
    std::fill(start.begin(), start.end(), 0);
    for (int64_t i = 0; i < size; ++i) ++start[digit(i)];
    std::exclusive_scan(start.begin(), start.end(), start.begin(), 0);
    for (int32_t i : order) sorted[start[digit(i)]++] = i;
    order.swap(sorted);
  }
  for (int64_t i = 0; i < size; ++i) rank[order[i]] = (int32_t)i;
}

constexpr int64_t BLOCK = 64;  // boxes are multiples of that long

// A cloud in boxes of `length` points, which keep the order of their indices.
class Boxes {
 public:
  Boxes(const float* pos, int64_t size, int64_t length)
      : length_(round_up(length, BLOCK)), count_(ceil_div(size, length_)), points_(count_ * length_),
        low_(count_), high_(count_), farthest_(round_up(count_, LANES)),
        distance_(count_ * length_), original_(count_ * length_), place_((size_t)size) {
    Columns given(size);
    for (int64_t i = 0; i < size; ++i) given.set(i, point(pos + 3 * i));
    std::vector<int32_t> rank((size_t)size), fill((size_t)count_, 0);
    if (count_ > 1) rank_along_curve(given, size, rank);
    for (int64_t i = size; i < count_ * length_; ++i) points_.set(i, {0, 0, 0}), distance_[i] = -1.0f;  // no points
    std::fill_n((float*)farthest_, round_up(count_, LANES), -1.0f);
    for (int64_t i = 0; i < size; ++i) {
      int64_t box = rank[i] / length_, to = box * length_ + fill[box]++;
      points_.set(to, given.get(i)), distance_[to] = INFINITY, original_[to] = (int32_t)i, place_[i] = (int32_t)to;
    }
    for (int64_t box = 0; box < count_; ++box) {
      farthest_[box] = INFINITY;
      for (int d = 0; d < 3; ++d) {
        int64_t from = box * length_;
        bounds(points_.column(d), from, from + fill[box], low_.column(d)[box], high_.column(d)[box]);
      }
    }
  }

  void sample(int64_t start, int64_t count, int64_t* picks) {
    int64_t at = place_[start];
    for (int64_t s = 0;;) {
      picks[s] = original_[at];
      if (++s == count) return;
      distance_[at] = -1.0f;  // below every distance: not picked again
      at = find(shorten_all(points_.get(at)));
    }
  }

 private:
  static Floats gap(const float* low, const float* high, float at) {
    Floats gap = max(max(load(low) - at, at - load(high)), Floats{});
    return gap * gap;
  }

  // Returns the largest distance that is left.
  float shorten_all(Point to) {
    Floats most = splat(-1.0f);
    for (int64_t v = 0; v < count_; v += LANES) {
      Floats least = gap(low_.x() + v, high_.x() + v, to.x) + gap(low_.y() + v, high_.y() + v, to.y) +
                     gap(low_.z() + v, high_.z() + v, to.z);
      Floats farthest = load(farthest_ + v);
      for (uint32_t bits = less_equal_bits(least, farthest); bits; bits &= bits - 1) {
        int lane = __builtin_ctz(bits);
        Floats left = splat(shorten((v + lane) * length_, to));
        farthest = iota() == lane ? left : farthest;  // a single lane in memory would make the next load wait
      }
      store(farthest_ + v, farthest);
      most = max(farthest, most);
    }
    return largest(most);
  }

  float shorten(int64_t from, Point to) {
    Floats most = splat(-1.0f);
    for (int64_t i = from; i < from + length_; i += LANES) {
      Floats d = min(points_.squared_distances(i, to), load(distance_ + i));
      store(distance_ + i, d);
      most = max(d, most);
    }
    return largest(most);
  }

  // The place of the lowest index whose distance is `most`, the largest one.
  int64_t find(float most) const {
    Floats wanted = splat(most);
    int64_t best = -1;
    for (int64_t v = 0; v < count_; v += LANES)
      for (uint32_t bits = less_equal_bits(wanted, load(farthest_ + v)); bits; bits &= bits - 1) {
        int64_t i = (v + __builtin_ctz(bits)) * length_;
        uint64_t found;
        while (!(found = at_least(wanted, i))) i += BLOCK;
        i += __builtin_ctzll(found);
        if (best < 0 || original_[i] < original_[best]) best = i;
      }
    return best;
  }

  // Bits of the points of a block whose distance is at least `wanted`; the whole block, to avoid branch mispredictions.
  uint64_t at_least(Floats wanted, int64_t i) const {
    uint64_t bits = 0;
    for (int64_t j = 0; j < BLOCK; j += LANES)
      bits |= (uint64_t)less_equal_bits(wanted, load(distance_ + i + j)) << j;
    return bits;
  }

  int64_t length_, count_;
  Columns points_, low_, high_;
  Scratch<float> farthest_, distance_;
  Scratch<int32_t> original_;
  std::vector<int32_t> place_;
};

void sample_cloud(const float* pos, int64_t size, int64_t start, int64_t count, int64_t* picks) {
  int64_t different = std::min(size, count);
  // Few picks do not pay for sorting: the cloud is one box then. The lengths are those that were measured fastest.
  int64_t length = different < 8 * LANES ? size : size < 32768 ? 64 : 128;
  Boxes(pos, size, length).sample(start, different, picks);
  for (int64_t s = different; s < count; ++s) picks[s] = picks[s - size];
}

int64_t farthest_from_centroid(const float* pos, int64_t size) {
  double sum[3] = {0, 0, 0};
  for (int64_t i = 0; i < size; ++i)
    for (int d = 0; d < 3; ++d) sum[d] += pos[3 * i + d];
  float x = (float)(sum[0] / (double)size), y = (float)(sum[1] / (double)size), z = (float)(sum[2] / (double)size);
  float most = -1.0f;
  int64_t best = 0;
  for (int64_t i = 0; i < size; ++i) {
    float dx = pos[3 * i] - x, dy = pos[3 * i + 1] - y, dz = pos[3 * i + 2] - z;
    float d = dx * dx + dy * dy + dz * dz;
    if (d > most) most = d, best = i;
  }
  return best;
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// picks (clouds x count): flat rows. first: the first pick of each cloud, counted from the cloud's beginning.
GEO3D_API int32_t geo3d_farthest_points(int32_t threads, int64_t rows, int64_t clouds, int64_t count, const float* pos,
                                        const int64_t* ptr, const int64_t* first, int64_t* picks) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, rows)) return BAD_OFFSETS;
    std::vector<int64_t> order((size_t)clouds);  // large clouds first: threads end at about the same time
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return ptr[a + 1] - ptr[a] > ptr[b + 1] - ptr[b]; });
    Fault fault;
    parallel(threads, clouds, [&](int64_t task) {
      int64_t b = order[task], size = ptr[b + 1] - ptr[b];
      const float* cloud = pos + 3 * ptr[b];
      if (!all_finite(cloud, 3 * size)) return fault.raise(NOT_FINITE);
      if (first[b] < 0 || first[b] >= size) return fault.raise(BAD_INDEX);
      int64_t* to = picks + b * count;
      sample_cloud(cloud, size, first[b], count, to);
      for (int64_t s = 0; s < count; ++s) to[s] += ptr[b];
    });
    return fault.status();
  });
}

// best (clouds): the point farthest from the mean of its cloud, counted from the cloud's beginning.
GEO3D_API int32_t geo3d_farthest_from_centroid(int32_t threads, int64_t rows, int64_t clouds, const float* pos,
                                               const int64_t* ptr, int64_t* best) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, rows)) return BAD_OFFSETS;
    Fault fault;
    parallel(threads, clouds, [&](int64_t b) {
      const float* cloud = pos + 3 * ptr[b];
      int64_t size = ptr[b + 1] - ptr[b];
      if (!all_finite(cloud, 3 * size)) return fault.raise(NOT_FINITE);
      best[b] = farthest_from_centroid(cloud, size);
    });
    return fault.status();
  });
}
