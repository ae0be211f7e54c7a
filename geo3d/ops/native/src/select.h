// The k smallest values of a row in ascending order, equal ones in the order of their ids, with few branches.
//
// First it finds a bound: the row is split into groups, and at least k values are no larger than the k-th smallest of
// the groups' minima. Few more than k values are within this bound. To sort them, it counts how many precede each.
#pragma once
#include <algorithm>
#include <limits>

#include "parallel.h"
#include "simd.h"

namespace geo3d {

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr float ABSENT = std::numeric_limits<float>::quiet_NaN();  // neither below a bound nor a minimum
constexpr int64_t ROW = 64;           // rows are filled up to a multiple of it with ABSENT
constexpr int64_t RANKED_MOST = 640;  // beyond, counting is slower than sorting

constexpr int64_t GROUPS_MOST = 384;

// Number of groups for the bound: about 1.5 k, which keeps the bound tight and the ranking short; 0 for no bound.
inline int64_t groups_for(int64_t k) {
  int64_t groups = round_up(std::max<int64_t>(32, k + k / 2), 32);
  return groups <= GROUPS_MOST ? groups : 0;
}

class Selector {
 public:
  static constexpr int WIDE = 32 / LANES;  // vectors at a time, 32 values on every machine

  // For rows of at most n values.
  explicit Selector(int64_t n)
      : values_(n + ROW), ranks_(RANKED_MOST + ROW), ids_(n + ROW), sorted_(n + ROW), keys_(n + ROW) {}

  // A bound no smaller than the k-th smallest value; n is a multiple of 32.
  float bound(const float* row, int64_t n, int64_t k) const {
    int64_t groups = groups_for(k);
    if (!groups || n < 2 * groups) return INFINITE;
    float minima[GROUPS_MOST];
    for (int64_t g = 0; g < groups; g += 32) {
      Floats least[WIDE];
#pragma GCC unroll 8
      for (int w = 0; w < WIDE; ++w) least[w] = splat(INFINITE);
      for (int64_t i = g; i < n; i += groups) {
#pragma GCC unroll 8
        for (int w = 0; w < WIDE; ++w) least[w] = min(load(row + i + w * LANES), least[w]);
      }
      for (int w = 0; w < WIDE; ++w) store(minima + g + w * LANES, least[w]);
    }
    Floats top = splat(-INFINITE);
    for (int64_t g = 0; g < groups; g += 32) {
      Ints rank[WIDE];
      count_before<false>(minima, nullptr, groups, g, rank);
      for (int w = 0; w < WIDE; ++w) {
        Floats value = load(minima + g + w * LANES);
        top = max(rank[w] < splat((int32_t)k) ? value : splat(-INFINITE), top);
      }
    }
    float highest = top[0];
    for (int i = 1; i < LANES; ++i) highest = std::max(highest, top[i]);
    return highest;
  }

  // The ids of the k smallest of the values that are not ABSENT; there are at least k. Valid until the next call. The
  // length n of the row is a multiple of ROW.
  const int32_t* smallest(const float* row, const int32_t* ids, int64_t n, int64_t k) {
    int64_t found = collect(row, ids, n, bound(row, n, k));
    if (found > RANKED_MOST) {
      sort(found, k);
    } else if (!rank<false>(found)) {
      rank<true>(found);
    }
    return sorted_;
  }

 private:
  // rank[w][i] = how many of the n values go before number `at` + w LANES + i; with TIES, ids order equal values.
  template <bool TIES>
  static void count_before(const float* values, const int32_t* ids, int64_t n, int64_t at, Ints* rank) {
    Floats own[WIDE];
    Ints sum[WIDE];
#pragma GCC unroll 8
    for (int w = 0; w < WIDE; ++w) own[w] = load(values + at + w * LANES), sum[w] = Ints{};
    for (int64_t t = 0; t < n; ++t) {
      Floats other = splat(values[t]);
#pragma GCC unroll 8
      for (int w = 0; w < WIDE; ++w) {
        sum[w] -= other < own[w];
        if (TIES) sum[w] -= (other == own[w]) & (splat(ids[t]) < load(ids + at + w * LANES));
      }
    }
    for (int w = 0; w < WIDE; ++w) rank[w] = sum[w];
  }

  int64_t collect(const float* row, const int32_t* ids, int64_t n, float bound) {
    int64_t found = 0;
    Floats limit = splat(bound);
#if defined(__AVX512F__)
    for (int64_t i = 0; i < n; i += LANES) {
      Floats value = load(row + i);
      __mmask16 bits = (__mmask16)less_equal_bits(value, limit);
      store(values_ + found, (Floats)_mm512_maskz_compress_ps(bits, (__m512)value));
      store(ids_ + found, (Ints)_mm512_maskz_compress_epi32(bits, (__m512i)load(ids + i)));
      found += __builtin_popcount(bits);
    }
#else
    for (int64_t i = 0; i < n; i += ROW) {
      uint64_t bits = 0;
      for (int w = 0; w < ROW / LANES; ++w)
        bits |= (uint64_t)less_equal_bits(load(row + i + w * LANES), limit) << (w * LANES);
      for (; bits; bits &= bits - 1, ++found) {
        int64_t at = i + __builtin_ctzll(bits);
        values_[found] = row[at], ids_[found] = ids[at];
      }
    }
#endif
    return found;
  }

  // Sorts the collected values; false where values are equal and TIES is not set.
  template <bool TIES>
  bool rank(int64_t found) {
    for (int64_t j = found; j < round_up(found, 32); ++j) values_[j] = INFINITE, ids_[j] = 0;
    for (int64_t j = 0; j < found; j += 32) {
      Ints rank[WIDE];
      count_before<TIES>(values_, ids_, found, j, rank);
      for (int w = 0; w < WIDE; ++w) store(ranks_ + j + w * LANES, rank[w]);
    }
    int64_t total = 0;
    for (int64_t j = 0; j < found; ++j) sorted_[ranks_[j]] = ids_[j], total += ranks_[j];
    return total == found * (found - 1) / 2;  // a pair of equals counts once too little
  }

  // As `rank`, for any values: sorts by keys of value and id.
  void sort(int64_t found, int64_t k) {
    for (int64_t j = 0; j < found; ++j) {
      float value = values_[j] + 0.0f;  // one zero only
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      bits = bits >> 31 ? ~bits : bits | 0x80000000u;  // in the order of the floats
      keys_[j] = (uint64_t)bits << 32 | (uint32_t)ids_[j];
    }
    if (k < found) std::nth_element(keys_ + 0, keys_ + k, keys_ + found);
    std::sort(keys_ + 0, keys_ + std::min(k, found));
    for (int64_t j = 0; j < std::min(k, found); ++j) sorted_[j] = (int32_t)(uint32_t)keys_[j];
  }

  Scratch<float> values_;
  Scratch<int32_t> ranks_, ids_, sorted_;
  Scratch<uint64_t> keys_;
};

}  // namespace geo3d
