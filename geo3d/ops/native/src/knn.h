// Shared by the two searches for neighbours.
#pragma once
#include <algorithm>
#include <atomic>

#include "api.h"
#include "parallel.h"

namespace geo3d {

// The k nearest of the points x for each of the queries y of the same cloud.
struct Search {
  int threads;
  int64_t clouds, channels, k;
  bool same;  // the queries are the points
  const float *x, *y;
  const int64_t *ptr_x, *ptr_y;
  int64_t* out;

  int64_t points(int64_t cloud) const { return ptr_x[cloud + 1] - ptr_x[cloud]; }
  int64_t queries(int64_t cloud) const { return ptr_y[cloud + 1] - ptr_y[cloud]; }
  int64_t found(int64_t cloud) const { return std::min(k, points(cloud)); }
  const float* point(int64_t cloud, int64_t i) const { return x + (ptr_x[cloud] + i) * channels; }
  const float* query(int64_t cloud, int64_t i) const { return y + (ptr_y[cloud] + i) * channels; }

  // The neighbours of a query, repeated if they are fewer than k.
  void write(int64_t cloud, int64_t i, const int32_t* nearest) const {
    int64_t* row = out + (ptr_y[cloud] + i) * k;
    int64_t first = ptr_x[cloud], real = found(cloud);
    for (int64_t j = 0; j < real; ++j) row[j] = first + nearest[j];
    for (int64_t j = real; j < k; ++j) row[j] = row[j - real];
  }
};

int32_t search_points(const Search& search, int64_t tree_from);  // up to three channels
int32_t search_features(const Search& search);

// As `parallel`, but calls f(own, i), where make() has created `own` for each thread.
template <class Make, class F>
void parallel_with(int threads, int64_t count, Make&& make, F&& f) {
  std::atomic<int64_t> next{0};
  parallel(threads, std::min<int64_t>(threads, count), [&](int64_t) {
    auto own = make();
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) f(own, i);
  });
}

}  // namespace geo3d
