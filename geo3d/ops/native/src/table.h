// Checks of neighbors (rows, k), and where they can be cut into independent parts.
#pragma once
#include <algorithm>
#include <vector>

#include "parallel.h"
#include "simd.h"

namespace geo3d {

inline bool in_range(const int64_t* index, int64_t count, int64_t rows) {
  int64_t low = 0, high = 0;
  for (int64_t i = 0; i < count; ++i) low = std::min(low, index[i]), high = std::max(high, index[i]);
  return low >= 0 && high < rows;
}

// Rows where neighbors can be cut so that no row has neighbours in another part: each part can be worked on alone.
// Parts have at least `least` rows where possible.
inline std::vector<int64_t> cuts(int threads, const int64_t* neighbors, int64_t rows, int64_t k, int64_t least) {
  std::vector<int64_t> low((size_t)rows), high((size_t)rows), found{0};
  parallel(threads, ceil_div(rows, 1024), [&](int64_t block) {
    for (int64_t i = block * 1024; i < std::min(rows, (block + 1) * 1024); ++i) {
      auto ends = std::minmax_element(neighbors + i * k, neighbors + (i + 1) * k);
      low[i] = *ends.first, high[i] = *ends.second;
    }
  });
  for (int64_t i = rows - 1; i-- > 0;) low[i] = std::min(low[i], low[i + 1]);
  int64_t reach = -1;
  for (int64_t i = 1; i < rows; ++i) {
    reach = std::max(reach, high[i - 1]);
    if (reach < i && low[i] >= i && i - found.back() >= least) found.push_back(i);
  }
  found.push_back(rows);
  return found;
}

}  // namespace geo3d
