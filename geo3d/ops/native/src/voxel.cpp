// Points grouped by the cells of a grid that begins at each cloud's lowest corner.
#include <cmath>
#include <vector>

#include "clouds.h"

namespace geo3d {
namespace {

constexpr int BITS = 21;  // of a cell's number along one axis: three of them make a key
constexpr uint64_t NONE = ~0ull;

// A hash table from keys to numbers, which count the keys in the order of their first occurrence.
class Numbers {
 public:
  explicit Numbers(int64_t capacity) {
    while ((int64_t)1 << bits_ < 2 * capacity) ++bits_;
    entries_.assign((size_t)1 << bits_, {NONE, 0});
  }
  // The number of the key; a new key takes the number `next`.
  int64_t find(uint64_t key, int64_t next) {
    size_t mask = entries_.size() - 1, at = (size_t)(key * 0x9e3779b97f4a7c15ull >> (64 - bits_));
    while (entries_[at].key != NONE && entries_[at].key != key) at = (at + 1) & mask;
    if (entries_[at].key == NONE) entries_[at] = {key, next};
    return entries_[at].number;
  }

 private:
  struct Entry {
    uint64_t key;
    int64_t number;
  };
  int bits_ = 4;
  std::vector<Entry> entries_;
};

struct Cells {
  double size, low[3];
  bool fit = true;

  Cells(const float* pos, int64_t rows, double size) : size(size) {
    for (int d = 0; d < 3; ++d) {
      float least = pos[d], most = pos[d];
      for (int64_t i = 1; i < rows; ++i) least = std::min(least, pos[3 * i + d]), most = std::max(most, pos[3 * i + d]);
      low[d] = least;
      fit = fit && ((double)most - least) / size < (double)(1 << BITS);
    }
  }
  uint64_t key(const float* p) const {
    uint64_t key = 0;
    for (int d = 0; d < 3; ++d) key = key << BITS | (uint64_t)(((double)p[d] - low[d]) / size);
    return key;
  }
};

// Groups of one cloud, numbered from 0; `first` and `count` have room for one group a point. Returns their number.
int64_t group_cloud(const float* pos, int64_t begin, int64_t end, const Cells& cells, int64_t* group, int64_t* first,
                    int64_t* count) {
  Numbers numbers(end - begin);
  int64_t groups = 0;
  for (int64_t i = begin; i < end; ++i) {
    int64_t g = numbers.find(cells.key(pos + 3 * i), groups);
    if (g == groups) first[g] = i, count[g] = 0, ++groups;
    ++count[g], group[i] = g;
  }
  return groups;
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// group (rows), first and count (room for `rows`), group_ptr (clouds + 1): the groups of all clouds one after another.
// group_ptr[clouds] is -1 when a cloud is wider than 2^21 cells.
GEO3D_API int32_t geo3d_voxel_groups(int32_t threads, int64_t rows, int64_t clouds, const float* pos,
                                     const int64_t* ptr, const double* size, int64_t* group, int64_t* first,
                                     int64_t* count, int64_t* group_ptr) {
  return guarded([&]() -> int32_t {
    if (!valid_offsets(ptr, clouds, rows)) return BAD_OFFSETS;
    Fault fault;
    std::atomic<bool> fit{true};
    parallel(threads, clouds, [&](int64_t b) {
      int64_t begin = ptr[b], end = ptr[b + 1];
      group_ptr[b + 1] = 0;
      if (!all_finite(pos + 3 * begin, 3 * (end - begin))) return fault.raise(NOT_FINITE);
      Cells cells(pos + 3 * begin, end - begin, *size);
      if (!cells.fit) return fit.store(false);
      group_ptr[b + 1] = group_cloud(pos, begin, end, cells, group, first + begin, count + begin);
    });
    if (fault.status()) return fault.status();
    if (!fit.load()) return group_ptr[clouds] = -1, OK;
    group_ptr[0] = 0;
    for (int64_t b = 0; b < clouds; ++b) {  // close the gaps; never to the right, so nothing is lost
      int64_t before = group_ptr[b], groups = group_ptr[b + 1];
      std::memmove(first + before, first + ptr[b], (size_t)groups * sizeof *first);
      std::memmove(count + before, count + ptr[b], (size_t)groups * sizeof *count);
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) group[i] += before;
      group_ptr[b + 1] = before + groups;
    }
    return OK;
  });
}
