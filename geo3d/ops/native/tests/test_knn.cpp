#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_knn(int32_t, int64_t, int64_t, int64_t, int64_t, int64_t, const float*, const int64_t*, int64_t,
                            const float*, const int64_t*, int64_t, int64_t*);

namespace {

constexpr int64_t NEVER = std::numeric_limits<int64_t>::max();
constexpr int64_t UNTOUCHED = -7;

struct Rows {
  int64_t channels;
  std::vector<int64_t> ptr;
  std::vector<float> x;

  // `steps` > 0 rounds to multiples of 1 / steps: many equal distances, all exact.
  Rows(const std::vector<int64_t>& sizes, int64_t channels, int steps, uint64_t seed) : channels(channels), ptr{0} {
    for (int64_t size : sizes) ptr.push_back(ptr.back() + size);
    x = numbers(ptr.back() * channels, seed);
    for (float& value : x) value = steps ? std::round(value * (float)steps) / (float)steps : value;
  }
};

std::vector<int64_t> search(int threads, const Rows& x, const Rows& y, int64_t k, bool same, int64_t tree_from) {
  std::vector<int64_t> out((size_t)(y.ptr.back() * k) + 1, UNTOUCHED);
  CHECK(geo3d_knn(threads, (int64_t)x.ptr.size() - 1, x.channels, k, same, x.ptr.back(), x.x.data(), x.ptr.data(),
                  y.ptr.back(), y.x.data(), y.ptr.data(), tree_from, out.data()) == geo3d::OK);
  CHECK(out.back() == UNTOUCHED);
  out.pop_back();
  return out;
}

double distance(const Rows& x, int64_t j, const Rows& y, int64_t i) {
  double sum = 0;
  for (int64_t c = 0; c < x.channels; ++c) {
    double d = (double)x.x[(size_t)(j * x.channels + c)] - y.x[(size_t)(i * x.channels + c)];
    sum += d * d;
  }
  return sum;
}

// Distances ascend as those of a sorted row do, ids are distinct; with `ties`, equal ones in the order of their ids.
void check(const std::vector<int64_t>& out, const Rows& x, const Rows& y, int64_t k, bool same, bool ties) {
  for (size_t b = 0; b + 1 < x.ptr.size(); ++b)
    for (int64_t i = y.ptr[b]; i < y.ptr[b + 1]; ++i) {
      std::vector<int64_t> order((size_t)(x.ptr[b + 1] - x.ptr[b]));
      std::iota(order.begin(), order.end(), x.ptr[b]);
      auto rank = [&](int64_t j) { return same && j == i && x.channels > 3 ? -1 : distance(x, j, y, i); };
      std::stable_sort(order.begin(), order.end(), [&](int64_t p, int64_t q) { return rank(p) < rank(q); });
      std::vector<bool> seen(order.size());
      for (size_t t = 0; t < (size_t)k; ++t) {
        int64_t j = out[(size_t)(i * k) + t];
        CHECK(x.ptr[b] <= j && j < x.ptr[b + 1]);
        CHECK(std::fabs(rank(j) - rank(order[t % order.size()])) < 1e-5 * (double)(x.channels + 1));
        if (ties) CHECK(j == order[t % order.size()]);
        CHECK(t >= order.size() || !seen[(size_t)(j - x.ptr[b])]);
        seen[(size_t)(j - x.ptr[b])] = true;
      }
    }
}

void compare(const std::vector<int64_t>& sizes, const std::vector<int64_t>& asking, int64_t channels, int64_t k) {
  for (int steps : {0, 2, 20}) {
    Rows x(sizes, channels, steps, 1), y(asking, channels, steps, 2);
    bool ties = channels <= 3 && steps == 2;
    for (int64_t tree_from : {(int64_t)1, NEVER}) {
      if (channels > 3 && tree_from == 1) continue;
      std::vector<int64_t> own = search(1, x, x, k, true, tree_from), other = search(1, x, y, k, false, tree_from);
      check(own, x, x, k, true, ties), check(other, x, y, k, false, ties);
      CHECK(search(3, x, x, k, true, tree_from) == own && search(2, x, y, k, false, tree_from) == other);
    }
    if (channels <= 3) CHECK(search(2, x, y, k, false, 1) == search(2, x, y, k, false, NEVER));
  }
}

void equal_points(int64_t n, int64_t k) {
  for (int64_t different : {(int64_t)0, n / 3}) {
    Rows x({n}, 3, 1, 3);
    std::fill(x.x.begin() + 3 * different, x.x.end(), 0.5f);
    for (int64_t i = 0; i < different; ++i) x.x[(size_t)(3 * i)] = (float)i;
    check(search(2, x, x, k, true, 1), x, x, k, true, true);
    CHECK(search(2, x, x, k, true, 1) == search(2, x, x, k, true, NEVER));
  }
}

void faults() {
  std::vector<int64_t> out(100), ptr{0, 5, 10}, empty{0, 10, 10}, short_of{0, 5, 9}, late{1, 5, 10};
  for (int64_t channels : {2, 3, 7}) {
    std::vector<float> x = numbers(10 * channels, 1), y = numbers(10 * channels, 2);
    auto status = [&](const int64_t* ptr_x, const int64_t* ptr_y, int64_t tree_from, bool same) {
      return geo3d_knn(2, 2, channels, 4, same, 10, x.data(), ptr_x, 10, same ? x.data() : y.data(), ptr_y, tree_from,
                       out.data());
    };
    for (const auto& bad : {empty, short_of, late}) {
      CHECK(status(bad.data(), ptr.data(), NEVER, false) == geo3d::BAD_OFFSETS);
      CHECK(status(ptr.data(), bad.data(), NEVER, false) == geo3d::BAD_OFFSETS);
    }
    for (float wrong : {std::nanf(""), INFINITY, -INFINITY}) {
      for (std::vector<float>* values : {&x, &y}) {
        std::swap((*values)[3], wrong);
        for (int64_t tree_from : {(int64_t)1, NEVER}) {
          CHECK(status(ptr.data(), ptr.data(), tree_from, false) == geo3d::NOT_FINITE);
          if (values == &x) CHECK(status(ptr.data(), ptr.data(), tree_from, true) == geo3d::NOT_FINITE);
        }
        std::swap((*values)[3], wrong);
      }
    }
  }
  std::vector<float> huge = numbers(30, 1);  // squares overflow: infinite distances are equal, and nothing breaks
  for (float& value : huge) value *= 3e38f;
  for (int64_t tree_from : {(int64_t)1, NEVER}) {
    const float* x = huge.data();
    CHECK(geo3d_knn(1, 2, 3, 4, 1, 10, x, ptr.data(), 10, x, ptr.data(), tree_from, out.data()) == geo3d::OK);
    for (int64_t i = 0; i < 10; ++i) {
      int64_t first = i / 5 * 5, second = i == first ? first + 1 : first;
      CHECK(out[(size_t)(4 * i)] == i && out[(size_t)(4 * i + 1)] == second);
    }
  }
  std::vector<float> wide = numbers(50, 1);
  for (float& value : wide) value *= 1e25f;
  CHECK(geo3d_knn(1, 2, 5, 4, 1, 10, wide.data(), ptr.data(), 10, wide.data(), ptr.data(), 1, out.data()) ==
        geo3d::NOT_FINITE);
}

}  // namespace

void test_knn() {
  for (int64_t channels : {0, 1, 3, 4, 37}) {
    compare({40, 1, 7, 200}, {3, 70, 1, 33}, channels, 5);
    compare({65, 130}, {40, 1}, channels, 20);
  }
  compare({400}, {90}, 3, 70);
  compare({300}, {20}, 3, 270);
  compare({300}, {20}, 8, 260);
  equal_points(500, 5), equal_points(500, 40);
  faults();
}
