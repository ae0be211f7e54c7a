// Shared MLPs on grouped rows, and the maximum of each group: what forward and backward passes share.
//
// Rows are the distinct neighbours of a ball query, group after group. A ball query pads a group with its first entry,
// which is computed once and counted as often as it occurs. Rows are processed in blocks that stay in the cache. Blocks
// and their parts do not depend on the number of threads, so the sums do not either.
#pragma once
#include <algorithm>
#include <vector>

#include "api.h"
#include "gemm.h"

namespace geo3d {

constexpr int64_t PARTS = 32;  // tasks; each has sums of its own

// Rows of a block: full tiles in every block but the last, and several blocks even if there are few rows.
inline int64_t block_rows(int64_t rows) {
  static_assert(24 % MR == 0, "");
  return std::clamp<int64_t>(round_up(ceil_div(rows, 8), 24), 24, 192);
}

// Channels in memory: those after the last one are zero, so that loops need no special end.
inline int64_t wide(int64_t channels) { return round_up(channels, NR); }

inline const float* address(const int64_t* list, int64_t i) { return (const float*)(intptr_t)list[i]; }

// n values and zeros up to the width.
inline void copy_wide(const float* from, int64_t n, float* to) {
  std::memcpy(to, from, (size_t)n * sizeof(float));
  std::fill(to + n, to + wide(n), 0.0f);
}

// The first layer's output for each row: of_points[j] + of_groups[group] + weight (pos[j] - centers[group]), where each
// part may be missing; without neighbors just of_points[row].
struct Source {
  int64_t groups, k, points, channels;
  const float *of_points, *of_groups, *pos, *centers, *weight;  // each may be null; pos, centers and weight together
  const int64_t *neighbors, *count;                             // (groups, k) or null, and the rows of each group
};

class Grouping {
 public:
  Grouping(const Source& source, Status& status)
      : s(source), start((size_t)s.groups + 1), weights_(3 * wide(s.channels)) {
    status = OK;
    for (int64_t g = 0; g < s.groups; ++g) {
      int64_t most = s.neighbors ? s.k : s.points - start[(size_t)g];
      if (s.count[g] < 1 || s.count[g] > most) {
        status = s.neighbors ? BAD_INDEX : BAD_OFFSETS;
        return;
      }
      start[(size_t)g + 1] = start[(size_t)g] + s.count[g];
    }
    rows = start.back();
    step = block_rows(rows);
    if (rows > INT32_MAX || s.points > INT32_MAX) {
      status = OUT_OF_MEMORY;  // rows and points are numbered in 32 bits
      return;
    }
    if (!s.neighbors) {
      if (rows != s.points) status = BAD_OFFSETS;
      return;
    }
    index.resize((size_t)rows);
    bool bad = false;
    for (int64_t g = 0; g < s.groups; ++g)
      for (int64_t i = 0; i < s.count[g]; ++i) {
        int64_t j = s.neighbors[g * s.k + i];
        bad |= j < 0 || j >= s.points;
        index[(size_t)(start[(size_t)g] + i)] = (int32_t)j;
      }
    if (bad) status = BAD_INDEX;
    std::fill(weights_ + 0, weights_ + 3 * wide(s.channels), 0.0f);
    if (!s.pos) return;
    for (int64_t c = 0; c < s.channels; ++c)
      for (int64_t d = 0; d < 3; ++d) weights_[d * wide(s.channels) + c] = s.weight[3 * c + d];
  }

  int64_t blocks() const { return ceil_div(rows, step); }
  int64_t rows_of(int64_t block) const { return std::min(step, rows - block * step); }
  int64_t group_of(int64_t row) const {
    return std::upper_bound(start.begin(), start.end(), row) - start.begin() - 1;
  }
  // How often row i of group g occurs.
  float occurs(int64_t g, int64_t i) const { return s.neighbors && i == 0 ? (float)(1 + s.k - s.count[g]) : 1.0f; }
  double total() const { return s.neighbors ? (double)s.groups * (double)s.k : (double)rows; }

  void offset(int64_t row, int64_t g, float* d) const {
    if (!s.pos) {
      d[0] = d[1] = d[2] = 0.0f;
      return;
    }
    const float *p = s.pos + 3 * index[(size_t)row], *c = s.centers + 3 * g;
    for (int i = 0; i < 3; ++i) d[i] = p[i] - c[i];
  }
  // The part of the first layer's output that comes from the point's features.
  void point(int64_t j, float* to) const {
    if (s.of_points) copy_wide(s.of_points + j * s.channels, s.channels, to);
    else std::fill(to, to + wide(s.channels), 0.0f);
  }
  // The part that comes from the group.
  void group(int64_t g, float* to) const {
    if (s.of_groups) copy_wide(s.of_groups + g * s.channels, s.channels, to);
    else std::fill(to, to + wide(s.channels), 0.0f);
  }
  const float* offset_weight(int64_t axis) const { return weights_ + axis * wide(s.channels); }
  void fill_row(int64_t row, int64_t g, float* to) const {
    if (!s.neighbors) return point(row, to);
    float d[3];
    offset(row, g, d);
    const float* from = s.of_points ? s.of_points + index[(size_t)row] * s.channels : nullptr;
    const float* with = s.of_groups ? s.of_groups + g * s.channels : nullptr;
    for (int64_t c = 0; c < wide(s.channels); c += LANES) {
      Floats own = part(from, c);
      if (with) own += part(with, c);
      if (s.pos)
        own += d[0] * load(offset_weight(0) + c) + d[1] * load(offset_weight(1) + c) + d[2] * load(offset_weight(2) + c);
      store(to + c, own);
    }
  }
  void fill(int64_t block, float* to) const {
    int64_t first = block * step, g = group_of(first);
    for (int64_t r = 0; r < rows_of(block); ++r) {
      while (first + r >= start[(size_t)g + 1]) ++g;
      fill_row(first + r, g, to + r * wide(s.channels));
    }
  }
  // Writes how often each row of the block occurs to mu; returns the sum.
  float weigh(int64_t block, float* mu) const {
    int64_t first = block * step, g = group_of(first);
    float sum = 0.0f;
    for (int64_t r = 0; r < rows_of(block); ++r) {
      while (first + r >= start[(size_t)g + 1]) ++g;
      sum += mu[r] = occurs(g, first + r - start[(size_t)g]);
    }
    return sum;
  }

  const Source& s;
  int64_t rows = 0, step = 0;  // all rows, those of a block
  std::vector<int64_t> start;
  std::vector<int32_t> index;

 private:
  // Channels c ... c + LANES of a row that may be missing; zeros after its end.
  Floats part(const float* row, int64_t c) const {
    if (row && c + LANES <= s.channels) return load(row + c);
    return row && c < s.channels ? load_part(row + c, s.channels - c, Floats{}) : Floats{};
  }

  Scratch<float> weights_;
};

// The tasks of a pass: part p works on blocks first(p) ... first(p + 1). The larger `room`, the floats that each part
// needs for its sums, the fewer parts there are.
struct Parts {
  int64_t blocks, count;
  explicit Parts(int64_t blocks, int64_t room = 0)
      : blocks(blocks), count(std::min({blocks, PARTS, std::max<int64_t>(4, (1 << 22) / (room + 1))})) {}
  int64_t first(int64_t part) const { return part * blocks / count; }
};

// (y - center) scale + shift, a batch normalisation, and the LeakyReLU after it.
class Affine {
 public:
  explicit Affine(int64_t channels, float slope = 0.0f)
      : channels(channels), width(wide(channels)), slope(slope), all_(3 * width) {
    std::fill(all_ + 0, all_ + 3 * width, 0.0f);
  }
  float* center() { return all_; }
  float* scale() { return all_ + width; }
  float* shift() { return all_ + 2 * width; }
  Floats apply(Floats y, int64_t c) const {
    return (y - load(all_ + c)) * load(all_ + width + c) + load(all_ + 2 * width + c);
  }
  // NaN stays NaN; with a slope of 0, what is negative becomes +0.
  Floats bend(Floats z) const { return z < 0.0f ? below(z) : z; }
  // What a gradient or a negative value becomes below zero.
  Floats below(Floats z) const { return slope == 0.0f ? Floats{} : slope * z; }
  void activate(const float* y, int64_t rows, float* x) const {
    for (int64_t c = 0; c < width; c += LANES) {
      Floats center = load(all_ + c), scale = load(all_ + width + c), shift = load(all_ + 2 * width + c);
      for (int64_t r = 0; r < rows; ++r)
        store(x + r * width + c, bend((load(y + r * width + c) - center) * scale + shift));
    }
  }
  int64_t channels, width;
  float slope;

 private:
  Scratch<float> all_;
};

// A weight (out, in) packed for y = x W'.
class Packed {
 public:
  Packed(int threads, const float* weight, int64_t in, int64_t out) : in(in), out(out), data(wide(out) * in) {
    parallel(threads, panels(out), [&](int64_t p) {
      pack_transposed(weight + p * NR * in, in, in, std::min<int64_t>(NR, out - p * NR), data + p * NR * in);
    });
  }
  int64_t in, out;
  Scratch<float> data;
};

// Calls use(tile, row, height, column) for the tiles of x W', panel of columns after panel; rows of x are wide(depth)
// apart.
template <class F>
void multiply_block(const float* x, int64_t rows, int64_t depth, const float* packed, int64_t columns,
                    const float* init, F&& use) {
  Rows part(depth);
  Tile tile;
  for (int64_t p = 0; p < panels(columns); ++p)
    for (int64_t r = 0; r < rows; r += MR) {
      int64_t height = std::min<int64_t>(MR, rows - r);
      const float* from = x + r * wide(depth);
      part.multiply(tile, from, wide(depth), height, packed + p * NR * depth, init ? init + p * NR : init);
      use(tile, r, height, p * NR);
    }
}

inline void store_tile(const Tile& tile, int64_t height, float* to, int64_t stride) {
  for (int64_t i = 0; i < height; ++i, to += stride) std::memcpy(to, tile.value[i], sizeof tile.value[i]);
}

}  // namespace geo3d
