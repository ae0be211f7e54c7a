// Ball query: the first k points, in the order of their indices, no farther from a centre than the radius.
//
// A scan in index order may stop at the k-th point. Where balls hold few points of a large cloud, a grid gives the
// points near a centre instead, and a set of bits puts them back in order. Both give the same result.
#include "exact.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "clouds.h"

namespace geo3d {
namespace {

// Writes first + lane for each bit set and returns how many; up to LANES places may be overwritten.
#if defined(__AVX512F__)
inline int append(int32_t* to, int32_t first, uint32_t bits) {
  store(to, (Ints)_mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)(first + iota())));
  return __builtin_popcount(bits);
}
#else
struct SetLanes {
  int32_t lane[1 << LANES][LANES] = {};
  int32_t count[1 << LANES] = {};
  constexpr SetLanes() {
    for (int bits = 0; bits < 1 << LANES; ++bits)
      for (int i = 0; i < LANES; ++i)
        if (bits >> i & 1) lane[bits][count[bits]++] = i;
  }
};
inline int append(int32_t* to, int32_t first, uint32_t bits) {
  static constexpr SetLanes lanes;
  store(to, first + load(lanes.lane[bits]));
  return lanes.count[bits];
}
#endif

// Rows of [from, to) within the square root of reach, at most k; returns how many. `found` has room for k + LANES.
int64_t scan(const Columns& points, int64_t from, int64_t to, Point center, float reach, int64_t k, int32_t* found) {
  const Floats limit = splat(reach);
  int64_t count = 0, i = from;
  for (; i + LANES <= to; i += LANES) {  // without asking whether a vector holds any: that would be guessed wrong
    uint32_t bits = less_equal_bits(points.squared_distances(i, center), limit);
    count += append(found + count, (int32_t)i, bits);
    if (count >= k) return k;
  }
  uint32_t bits = less_equal_bits(points.squared_distances(i, center), limit) & first_lanes(to - i);
  return std::min(k, count + append(found + count, (int32_t)i, bits));
}

float nearest(const Columns& points, int64_t from, int64_t to, Point center) {
  float least = INFINITY;
  for (int64_t i = from; i < to; i += LANES) {
    Floats d = points.squared_distances(i, center);
    for (int lane = 0; lane < LANES; ++lane)
      if (i + lane < to) least = std::min(least, d[lane]);
  }
  return least;
}

// A set of numbers that gives them back in order.
class Ordered {
 public:
  explicit Ordered(int64_t size) : bits_((size_t)ceil_div(size, 64), 0), words_((size_t)ceil_div(size, 4096), 0) {}
  void insert(int64_t i) {
    bits_[i >> 6] |= 1ull << (i & 63);
    words_[i >> 12] |= 1ull << (i >> 6 & 63);
  }
  // The k smallest ones plus `offset`; returns how many there were. The set is empty then.
  int64_t take(int64_t k, int64_t offset, int32_t* found) {
    int64_t count = 0;
    for (size_t s = 0; s < words_.size(); ++s) {
      for (uint64_t words = words_[s]; words; words &= words - 1) {
        size_t w = 64 * s + (size_t)__builtin_ctzll(words);
        for (uint64_t bits = bits_[w]; bits && count < k; bits &= bits - 1)
          found[count++] = (int32_t)(offset + 64 * (int64_t)w + __builtin_ctzll(bits));
        bits_[w] = 0;
      }
      words_[s] = 0;
    }
    return count;
  }

 private:
  std::vector<uint64_t> bits_, words_;
};

// The points of one cloud sorted by cells no narrower than the radius; the cells of one row are consecutive.
class Grid {
 public:
  Grid(const Columns& points, int64_t from, int64_t to, double radius, double extent)
      : sorted_(to - from), original_((size_t)(to - from)) {
    const float* columns[3] = {points.x(), points.y(), points.z()};
    // No more cells than points; rounding, and squares too small for a float, must not cost a neighbour.
    side_ = 1.0001 * std::max({radius, extent / std::cbrt((double)(to - from)), 1e-18});
    for (int d = 0; d < 3; ++d) {
      auto [low, high] = std::minmax_element(columns[d] + from, columns[d] + to);
      low_[d] = *low;
      cells_[d] = (int)(((double)*high - *low) / side_) + 1;
    }
    start_.assign((size_t)cells_[0] * cells_[1] * cells_[2] + 1, 0);
    std::vector<int32_t> cell((size_t)(to - from));
    for (int64_t i = from; i < to; ++i) ++start_[cell[i - from] = number(points.get(i))];
    std::inclusive_scan(start_.begin(), start_.end(), start_.begin());
    for (int64_t i = to; i-- > from;) {
      int32_t place = --start_[cell[i - from]];
      sorted_.set(place, points.get(i)), original_[place] = (int32_t)(i - from);
    }
  }

  // Fills run[0 ... 17] with runs of places that hold all points within the radius of the centre; returns their length.
  int64_t near(Point center, int32_t* run) const {
    int x = coordinate(center.x, 0), y = coordinate(center.y, 1), z = coordinate(center.z, 2);
    int x0 = std::max(x - 1, 0), x1 = std::min(x + 1, cells_[0] - 1);
    int64_t total = 0;
    for (int i = 0; i < 9; ++i, run += 2) {
      int cy = y + i % 3 - 1, cz = z + i / 3 - 1;
      run[0] = run[1] = 0;
      if (cy < 0 || cy >= cells_[1] || cz < 0 || cz >= cells_[2] || x0 > x1) continue;
      int32_t row = (cz * cells_[1] + cy) * cells_[0];
      run[0] = start_[row + x0], run[1] = start_[row + x1 + 1];
      total += run[1] - run[0];
    }
    return total;
  }

  void insert_inside(const int32_t* run, Point center, float reach, Ordered& inside) const {
    const Floats limit = splat(reach);
    for (int r = 0; r < 18; r += 2)
      for (int32_t i = run[r]; i < run[r + 1]; i += LANES) {
        uint32_t bits = less_equal_bits(sorted_.squared_distances(i, center), limit) & first_lanes(run[r + 1] - i);
        for (; bits; bits &= bits - 1) inside.insert(original_[i + __builtin_ctz(bits)]);
      }
  }

 private:
  // A centre farther than a cell outside of the grid is treated as one cell outside.
  int coordinate(float at, int d) const {
    return (int)std::floor(std::min(std::max(((double)at - low_[d]) / side_, -2.0), cells_[d] + 1.0));
  }
  int32_t number(Point p) const {
    return (coordinate(p.z, 2) * cells_[1] + coordinate(p.y, 1)) * cells_[0] + coordinate(p.x, 0);
  }

  double low_[3], side_;
  int cells_[3];
  std::vector<int32_t> start_;
  Columns sorted_;
  std::vector<int32_t> original_;
};

// A grid where it pays: for many queries in a large cloud, if balls hold too few points to stop a scan early.
std::unique_ptr<Grid> grid_if_worth_it(const Columns& points, int64_t from, int64_t to, int64_t queries, float reach,
                                       int64_t k) {
  int64_t size = to - from;
  if (size < 2048 || queries < 256) return nullptr;
  double extent = 0, radius = std::sqrt((double)reach);
  for (const float* column : {points.x(), points.y(), points.z()}) {
    auto [low, high] = std::minmax_element(column + from, column + to);
    extent = std::max(extent, (double)*high - *low);
  }
  double share = radius / extent;  // of a surface's points, about the square of that is in a ball
  if (!((double)size * share * share < (double)k)) return nullptr;
  return std::make_unique<Grid>(points, from, to, radius, extent);
}

// Answers the queries of one task.
class Searcher {
 public:
  Searcher(const Columns& points, float reach, int64_t k)
      : points_(points), reach_(reach), k_(k), found_((size_t)(k + LANES)) {}

  // Sets the cloud of the following queries.
  void enter(int64_t from, int64_t to, const Grid* grid) {
    from_ = from, to_ = to, grid_ = grid;
    if (grid) inside_ = std::make_unique<Ordered>(to - from);
  }

  // Returns how many different rows there are.
  int64_t answer(Point center, int64_t* row) {
    int64_t count = find(center);
    if (count == 0) count = scan(points_, from_, to_, center, nearest(points_, from_, to_, center), k_, found_.data());
    for (int64_t j = 0; j < k_; ++j) row[j] = found_[j < count ? j : 0];
    return count;
  }

 private:
  int64_t find(Point center) {
    if (grid_) {
      int32_t runs[18];
      int64_t near = grid_->near(center, runs), size = to_ - from_;
      if (4 * near < size && near * near < k_ * size) {  // else a scan stops early
        grid_->insert_inside(runs, center, reach_, *inside_);
        return inside_->take(k_, from_, found_.data());
      }
    }
    return scan(points_, from_, to_, center, reach_, k_, found_.data());
  }

  const Columns& points_;
  float reach_;
  int64_t k_, from_ = 0, to_ = 0;
  const Grid* grid_ = nullptr;
  std::unique_ptr<Ordered> inside_;
  std::vector<int32_t> found_;
};

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// neighbors (queries x k): flat rows of pos; count: how many of each row are distinct. reach: the squared radius.
GEO3D_API int32_t geo3d_ball_query(int32_t threads, int64_t rows, int64_t queries, int64_t clouds, int64_t k,
                                   float reach, const float* pos, const int64_t* ptr, const float* centers,
                                   const int64_t* center_ptr, int64_t* neighbors, int64_t* count) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, rows) || !valid_offsets(center_ptr, clouds, queries)) return BAD_OFFSETS;
    Fault fault;
    Columns points(rows);
    split(threads, pos, rows, points, fault);
    if (!all_finite(centers, 3 * queries)) return NOT_FINITE;
    if (fault.status()) return fault.status();
    std::vector<std::unique_ptr<Grid>> grids((size_t)clouds);
    parallel(threads, clouds, [&](int64_t b) {
      grids[b] = grid_if_worth_it(points, ptr[b], ptr[b + 1], center_ptr[b + 1] - center_ptr[b], reach, k);
    });
    constexpr int64_t BLOCK = 64;
    parallel(threads, ceil_div(queries, BLOCK), [&](int64_t block) {
      Searcher searcher(points, reach, k);
      int64_t end = std::min(queries, (block + 1) * BLOCK);
      each_cloud(center_ptr, clouds, block * BLOCK, end, [&](int64_t b, int64_t from, int64_t to) {
        searcher.enter(ptr[b], ptr[b + 1], grids[b].get());
        for (int64_t q = from; q < to; ++q) count[q] = searcher.answer(point(centers + 3 * q), neighbors + q * k);
      });
    });
    return OK;
  });
}
