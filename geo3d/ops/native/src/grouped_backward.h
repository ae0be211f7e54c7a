// Pieces of the backward pass on grouped rows: sums over parts of the rows, and the backward pass of a norm.
#pragma once
#include "grouped_layers.h"

extern "C" int32_t geo3d_outer(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                               float*);

namespace geo3d {

// One array for each part of the work, all of one size, and their sum in the order of the parts.
template <class T>
class PartSums {
 public:
  PartSums(const Parts& parts, int64_t size) : parts_(parts.count), size_(size), all_(parts_ * size) {}
  T* begin(int64_t part) {
    std::fill(all_ + part * size_, all_ + (part + 1) * size_, T(0));
    return all_ + part * size_;
  }
  double sum(int64_t i) const {
    double total = 0.0;
    for (int64_t p = 0; p < parts_; ++p) total += (double)all_[p * size_ + i];
    return total;
  }
  // Sums the first `columns` of each of `rows` rows, which are `stride` apart; on several threads.
  void sum(int threads, int64_t rows, int64_t columns, int64_t stride, float* to) const {
    parallel(threads, ceil_div(rows, 16), [&](int64_t task) {
      for (int64_t r = task * 16; r < std::min(rows, task * 16 + 16); ++r)
        for (int64_t c = 0; c < columns; ++c) to[r * columns + c] = (float)sum(r * stride + c);
    });
  }

 private:
  int64_t parts_, size_;
  Scratch<T> all_;
};

// Turns d (rows, channels), the gradient after a norm and its ReLU, into the gradient before the ReLU. Adds the sums of
// d and of d (y - center) in each channel to `sums`. Sums are float32 within a block and float64 across blocks.
inline void through_relu(const Affine& norm, const float* y, int64_t rows, float* d, double* sums) {
  int64_t width = norm.width;
  const float* center = const_cast<Affine&>(norm).center();
  for (int64_t c = 0; c < width; c += LANES) {
    Floats sum{}, product{};
    for (int64_t r = 0; r < rows; ++r) {
      Floats v = load(y + r * width + c), g = load(d + r * width + c);
      g = norm.apply(v, c) > 0.0f ? g : norm.below(g);
      store(d + r * width + c, g);
      sum += g, product += g * (v - load(center + c));
    }
    for (int i = 0; i < LANES; ++i) sums[c + i] += sum[i], sums[width + c + i] += product[i];
  }
}

// Backward pass of a norm with batch statistics: d scale - mu (lift + slope (y - center)).
class NormBackward {
 public:
  // Takes the sums of `through_relu` over all rows; writes the gradients of gamma and beta.
  NormBackward(Affine& norm, const float* var, float eps, double total, const PartSums<double>& sums, float* d_gamma,
               float* d_beta)
      : norm_(norm), lift_(norm.width), slope_(norm.width) {
    std::fill(lift_ + 0, lift_ + norm.width, 0.0f), std::fill(slope_ + 0, slope_ + norm.width, 0.0f);
    for (int64_t c = 0; c < norm.channels; ++c) {
      double rstd = 1.0 / std::sqrt((double)var[c] + eps), sum = sums.sum(c), product = sums.sum(norm.width + c) * rstd;
      d_gamma[c] = (float)product, d_beta[c] = (float)sum;
      lift_[c] = (float)(norm.scale()[c] * sum / total);
      slope_[c] = (float)(norm.scale()[c] * rstd * product / total);
    }
  }
  Floats apply(Floats d, Floats y, float mu, int64_t c) const {
    return d * load(norm_.scale() + c) - mu * (load(lift_ + c) + load(slope_ + c) * (y - load(norm_.center() + c)));
  }
  void apply(const float* d, const float* y, const float* mu, int64_t rows, float* to) const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < norm_.width; c += LANES) {
        int64_t at = r * norm_.width + c;
        store(to + at, apply(load(d + at), load(y + at), mu[r], c));
      }
  }

 private:
  Affine& norm_;
  Scratch<float> lift_, slope_;
};

// Gradients at the last layer. Through the statistics a centred input row x gets the gradient packed x + init, once for
// each time it occurs.
struct Asked {
  Asked(int threads, const Grouping& rows, Affine& norm, const float* var, float eps, const float* weight, int64_t in,
        const float* input_mean, const float* top, const float* d_out, float* d_gamma, float* d_beta);
  Scratch<float> of_maxima, slope, input_center, weight_rows, packed, init;
};

inline Asked::Asked(int threads, const Grouping& rows, Affine& norm, const float* var, float eps, const float* weight,
             int64_t in, const float* input_mean, const float* top, const float* d_out, float* d_gamma, float* d_beta)
    : of_maxima(rows.s.groups * norm.channels), slope(norm.channels), input_center(wide(in)),
      weight_rows(norm.channels * wide(in)), packed(wide(in) * in), init(wide(in)) {
  int64_t out = norm.channels;
  std::vector<double> lift((size_t)in);
  Scratch<float> scaled(out * in), back(in * in);
  for (int64_t c = 0; c < out; ++c) {
    double sum = 0.0, product = 0.0, rstd = 1.0 / std::sqrt((double)var[c] + eps);
    for (int64_t g = 0; g < rows.s.groups; ++g) {
      double d = d_out[g * out + c];
      sum += d, product += d * ((double)top[g * out + c] - norm.center()[c]);
      of_maxima[g * out + c] = d_out[g * out + c] * norm.scale()[c];
    }
    d_gamma[c] = (float)(product * rstd), d_beta[c] = (float)sum;
    slope[c] = (float)(norm.scale()[c] * rstd * d_gamma[c] / rows.total());
    copy_wide(weight + c * in, in, weight_rows + c * wide(in));
    for (int64_t i = 0; i < in; ++i) {
      lift[(size_t)i] -= norm.scale()[c] * sum / rows.total() * weight[c * in + i];
      scaled[c * in + i] = -slope[c] * weight[c * in + i];
    }
  }
  geo3d_outer(threads, out, in, in, scaled, in, weight, in, back);
  pack(back, in, in, in, packed);
  copy_wide(input_mean, in, input_center);
  std::fill(init + 0, init + wide(in), 0.0f);
  std::copy(lift.begin(), lift.end(), init + 0);
}

// Adds the gradient through the maxima to d, the rows' gradient, and to `won`, the weight's. x: a block's centred rows.
inline void add_maxima(const Asked& asked, const Grouping& rows, int64_t block, const int32_t* slot, int64_t out,
                int64_t width, const float* x, float* d, float* won) {
  int64_t first = block * rows.step, height = rows.rows_of(block);
  for (int64_t g = rows.group_of(first); g < rows.s.groups && rows.start[(size_t)g] < first + height; ++g)
    for (int64_t c = 0; c < out; ++c) {
      int64_t r = rows.start[(size_t)g] + slot[g * out + c] - first;
      float ask = asked.of_maxima[g * out + c];
      if (ask == 0.0f || r < 0 || r >= height) continue;
      float *to = d + r * width, *sum = won + c * width;
      const float *w = asked.weight_rows + c * width, *from = x + r * width;
      for (int64_t i = 0; i < width; i += LANES) {
        store(to + i, load(to + i) + ask * load(w + i));
        store(sum + i, load(sum + i) + ask * load(from + i));
      }
    }
}

}  // namespace geo3d
