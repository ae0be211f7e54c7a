// The layers of a training step on grouped rows: their weights, norms and outputs.
#pragma once
#include <cmath>
#include <memory>

#include "grouped.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace geo3d {

// Uninitialised floats for the outputs of all rows, on large pages where the system has them: touching a page of the
// usual size for the first time costs more than computing its values.
class Large {
 public:
  explicit Large(int64_t n) : bytes_((size_t)round_up(n * (int64_t)sizeof(float), PAGE)) {
    if (n == 0) return;
    data_ = (float*)::operator new(bytes_, std::align_val_t(PAGE));
#if defined(__linux__)
    madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  }
  ~Large() {
    if (data_) ::operator delete(data_, std::align_val_t(PAGE));
  }
  Large(const Large&) = delete;
  Large& operator=(const Large&) = delete;
  float* at(int64_t i) const { return data_ + i; }

 private:
  static constexpr int64_t PAGE = 1 << 21;
  size_t bytes_;
  float* data_ = nullptr;
};

// Layer 0 is the source; layer l has weights (channels[l], channels[l - 1]). Outputs of layers 1 ... last - 1 are kept.
class Layers {
 public:
  Layers(int threads, const Grouping& rows, int64_t count, const int64_t* channels, const int64_t* weights, float slope)
      : rows(rows), last(count - 1), channels(channels) {
    for (int64_t l = 0; l <= last; ++l) {
      if (l) packed_.emplace_back(new Packed(threads, address(weights, l - 1), channels[l - 1], channels[l]));
      norms_.emplace_back(new Affine(channels[l], slope));
      kept_.emplace_back(new Large(l && l < last ? rows.rows * wide(channels[l]) : 0));
      widest = std::max(widest, wide(channels[l]));
    }
  }

  Affine& norm(int64_t l) { return *norms_[(size_t)l]; }
  const float* packed(int64_t l) const { return packed_[(size_t)l - 1]->data; }
  float* kept(int64_t l, int64_t block) { return kept_[(size_t)l]->at(block * rows.step * wide(channels[l])); }
  // The output of layer l < last for a block, before its norm; that of layer 0 is computed again, into `buffer`.
  const float* raw(int64_t l, int64_t block, float* buffer) {
    if (l) return kept(l, block);
    rows.fill(block, buffer);
    return buffer;
  }
  void set_norm(int64_t l, const float* gamma, const float* beta, const float* mean, const float* var, float eps) {
    for (int64_t c = 0; c < channels[l]; ++c) {
      norm(l).center()[c] = mean[c];
      norm(l).scale()[c] = gamma[c] / std::sqrt(var[c] + eps);
      norm(l).shift()[c] = beta[c];
    }
  }

  const Grouping& rows;
  int64_t last, widest = 0;
  const int64_t* channels;

 private:
  std::vector<std::unique_ptr<Packed>> packed_;
  std::vector<std::unique_ptr<Affine>> norms_;
  std::vector<std::unique_ptr<Large>> kept_;
};

}  // namespace geo3d
