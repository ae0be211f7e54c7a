// Kernels on 8-bit codes and on packed weights, on every path that this processor runs.
#include <algorithm>
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_int8_paths(int32_t, int64_t, int64_t*);
GEO3D_API int32_t geo3d_int8_quantize(int32_t, int64_t, int64_t, const float*, int64_t, const float*, const float*,
                                      int64_t, uint8_t*, int64_t);
GEO3D_API int32_t geo3d_int8_accumulate(int32_t, int64_t, int64_t, int64_t, const uint8_t*, const int8_t*, int32_t*);
GEO3D_API int32_t geo3d_int8_linear(int32_t, int64_t, int64_t, int64_t, const uint8_t*, const int8_t*, const float*,
                                    const float*, float, float*, int64_t);
GEO3D_API int32_t geo3d_int8_edge_parts(int32_t, int64_t, int64_t, int64_t, const uint8_t*, const int8_t*, const float*,
                                        const float*, int64_t, const float*, int64_t, const float*, int64_t, float*,
                                        uint8_t*, int64_t);
GEO3D_API int32_t geo3d_int8_edge_evaluate(int32_t, int64_t, int64_t, int64_t, const float*, const uint8_t*, int64_t,
                                           const int64_t*, int64_t, const float*, int64_t, const float*, const float*,
                                           const float*, float, float*, int64_t);
GEO3D_API int32_t geo3d_int8_linear_pool(int32_t, int64_t, int64_t, int64_t, int64_t, const int64_t*, const uint8_t*,
                                         const int8_t*, const float*, const float*, float, float*, int64_t);
GEO3D_API int32_t geo3d_pack(int32_t, int64_t, int64_t, const float*, float*);
GEO3D_API int32_t geo3d_linear_packed(int32_t, int64_t, int64_t, int64_t, const float*, int64_t, const float*,
                                      const float*, float, float*, int64_t);
GEO3D_API int32_t geo3d_linear_pool_packed(int32_t, int64_t, int64_t, int64_t, int64_t, const int64_t*, const float*,
                                           int64_t, const float*, const float*, const float*, float, float*, int64_t);

namespace {

using Values = std::vector<float>;

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Each step is rounded by itself, whatever the compiler would like to fuse.
float rounded(volatile float x) { return x; }
float affine(float x, float scale, float shift) { return rounded(x * scale) + shift; }
float leaky(float z) { return z > 0 ? z : rounded(z * 0.2f); }
uint8_t code(float x, float step, float offset, float high) {
  return (uint8_t)std::nearbyint(std::min(std::max((x - offset) / step, 0.0f), high));
}

// A layer of `parts` weights with all that a test needs; the extreme codes are among the others.
struct Layer {
  int64_t rows, channels, depth, parts, width = up(depth, 4), panels = up(channels, 16) / 16;
  std::vector<uint8_t> q = std::vector<uint8_t>((size_t)(rows * width));
  std::vector<int8_t> packed = std::vector<int8_t>((size_t)(parts * panels * 16 * width));
  std::vector<int32_t> sums = std::vector<int32_t>((size_t)(rows * parts * channels));
  Values scale = numbers(parts * channels, 2), shift = numbers(parts * channels, 3);

  Layer(int64_t rows, int64_t channels, int64_t depth, int64_t parts)
      : rows(rows), channels(channels), depth(depth), parts(parts) {
    Values x = numbers(rows * depth, 4), w = numbers(parts * channels * depth, 5);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < depth; ++k)
        q[i * width + k] = i == 0 ? 255 : (uint8_t)(127.5f + 127.5f * x[i * depth + k]);
    for (int64_t c = 0; c < parts * channels; ++c)
      for (int64_t k = 0; k < depth; ++k) {
        int8_t value = c == 0 ? 63 : c == 1 ? -63 : (int8_t)(63.9f * w[c * depth + k]);
        int64_t panel = c / channels * panels + c % channels / 16;
        packed[((panel * width / 4 + k / 4) * 16 + c % channels % 16) * 4 + k % 4] = value;
        for (int64_t i = 0; i < rows; ++i) sums[i * parts * channels + c] += q[i * width + k] * value;
      }
    for (float& s : scale) s *= 1e-3f;
  }
  float value(int64_t i, int64_t c) const { return affine((float)sums[i * parts * channels + c], scale[c], shift[c]); }
};

void plain(int threads, int64_t rows, int64_t channels, int64_t depth) {
  Layer layer(rows, channels, depth, 1);
  int64_t stride = channels + 5;
  std::vector<int32_t> sums(layer.sums.size(), -1);
  Values out((size_t)(rows * stride), 7.0f);
  CHECK(geo3d_int8_accumulate(threads, rows, channels, layer.width, layer.q.data(), layer.packed.data(), sums.data()) ==
        0);
  CHECK(sums == layer.sums);
  CHECK(geo3d_int8_linear(threads, rows, channels, layer.width, layer.q.data(), layer.packed.data(), layer.scale.data(),
                          layer.shift.data(), 0.2f, out.data(), stride) == 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < stride; ++c)
      CHECK(out[i * stride + c] == (c < channels ? leaky(layer.value(i, c)) : 7.0f));
}

void codes_of_inputs(int threads, int64_t rows, int64_t depth, int64_t high) {
  int64_t width = up(depth, 4), stride = depth + 3;
  Values x = numbers(rows * stride, 6);
  x[0] = INFINITY, x[stride] = -INFINITY;
  float step = 0.00731f, offset = -0.3f;
  std::vector<uint8_t> q((size_t)(rows * width), 9);
  CHECK(geo3d_int8_quantize(threads, rows, depth, x.data(), stride, &step, &offset, high, q.data(), width) == 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < width; ++k)
      CHECK(q[i * width + k] == (k < depth ? code(x[i * stride + k], step, offset, (float)high) : 0));
  x[stride + depth - 1] = NAN;
  CHECK(geo3d_int8_quantize(threads, rows, depth, x.data(), stride, &step, &offset, high, q.data(), width) ==
        geo3d::NOT_FINITE);
}

void edge(int threads, int64_t rows, int64_t channels, int64_t depth, int64_t k, bool per_channel) {
  Layer layer(rows, channels, depth, 2);
  int64_t width = up(channels, 64), count = per_channel ? channels : 1, stride = channels + 3;
  Values step = numbers(count, 7), offset = numbers(count, 8), scale = numbers(channels, 9);
  Values a((size_t)(rows * channels)), out((size_t)(rows * stride), 7.0f);
  for (float& s : step) s = 0.01f + 0.02f * std::fabs(s);
  std::vector<uint8_t> codes((size_t)(rows * width), 9);
  std::vector<int64_t> neighbors((size_t)(rows * k));
  for (int64_t e = 0; e < rows * k; ++e) neighbors[e] = (e * e + 3 * e) % rows;
  CHECK(geo3d_int8_edge_parts(threads, rows, channels, layer.width, layer.q.data(), layer.packed.data(),
                              layer.scale.data(), layer.shift.data(), count, step.data(), count, offset.data(), 255,
                              a.data(), codes.data(), width) == 0);
  CHECK(geo3d_int8_edge_evaluate(threads, rows, k, channels, a.data(), codes.data(), width, neighbors.data(), count,
                                 step.data(), count, offset.data(), scale.data(), layer.shift.data(), 0.2f, out.data(),
                                 stride) == 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < width; ++c) {
      int64_t of = per_channel ? c : 0;
      if (c >= channels) {
        CHECK(codes[i * width + c] == 0 && (c >= stride || out[i * stride + c] == 7.0f));
        continue;
      }
      uint8_t top = 0;
      for (int64_t j = 0; j < k; ++j) top = std::max(top, codes[neighbors[i * k + j] * width + c]);
      float y = a[i * channels + c] + affine(top, step[of], offset[of]);
      CHECK(a[i * channels + c] == layer.value(i, c) - layer.value(i, channels + c));
      CHECK(codes[i * width + c] == code(layer.value(i, channels + c), step[of], offset[of], 255));
      CHECK(out[i * stride + c] == leaky(affine(y, scale[c], layer.shift[c])));
    }
}

void pool(int threads, const std::vector<int64_t>& ptr, int64_t channels, int64_t depth) {
  Layer layer(ptr.back(), channels, depth, 1);
  int64_t clouds = (int64_t)ptr.size() - 1, stride = 2 * channels + 1;
  Values out((size_t)(clouds * stride), 7.0f);
  CHECK(geo3d_int8_linear_pool(threads, ptr.back(), channels, layer.width, clouds, ptr.data(), layer.q.data(),
                               layer.packed.data(), layer.scale.data(), layer.shift.data(), 0.2f, out.data(),
                               stride) == 0);
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) {
      float top = -INFINITY, total = 0, sum = 0;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        float y = leaky(layer.value(i, c));
        top = std::max(top, y), sum += y;
        if ((i + 1 - ptr[b]) % 192 == 0 || i + 1 == ptr[b + 1]) total += sum, sum = 0;
      }
      CHECK(out[b * stride + c] == top && out[b * stride + channels + c] == total / (float)(ptr[b + 1] - ptr[b]));
    }
  for (int64_t b = 0; b < clouds; ++b) CHECK(out[b * stride + 2 * channels] == 7.0f);
}

void packed_floats(int threads, const std::vector<int64_t>& ptr, int64_t channels, int64_t depth) {
  int64_t rows = ptr.back(), clouds = (int64_t)ptr.size() - 1, stride = depth + 2, out_stride = channels + 3;
  Values x = numbers(rows * stride, 1), w = numbers(channels * depth, 2), scale = numbers(channels, 3);
  Values shift = numbers(channels, 4), packed((size_t)(up(channels, 32) * depth));
  Values out((size_t)(rows * out_stride), 7.0f), pooled((size_t)(clouds * 2 * channels));
  CHECK(geo3d_pack(threads, channels, depth, w.data(), packed.data()) == 0);
  CHECK(geo3d_linear_packed(threads, rows, channels, depth, x.data(), stride, packed.data(), shift.data(), 0.2f,
                            out.data(), out_stride) == 0);
  CHECK(geo3d_linear_pool_packed(threads, rows, channels, depth, clouds, ptr.data(), x.data(), stride, packed.data(),
                                 scale.data(), shift.data(), 0.2f, pooled.data(), 2 * channels) == 0);
  auto near = [&](double found, double expected) { CHECK(std::fabs(found - expected) < 1e-5 * (double)depth); };
  for (int64_t b = 0; b < clouds; ++b)
    for (int64_t c = 0; c < channels; ++c) {
      double top = -INFINITY, sum = 0;
      for (int64_t i = ptr[b]; i < ptr[b + 1]; ++i) {
        double h = 0;
        for (int64_t k = 0; k < depth; ++k) h += (double)x[i * stride + k] * w[c * depth + k];
        double y = h + shift[c], z = h * scale[c] + shift[c];
        near(out[i * out_stride + c], y > 0 ? y : 0.2 * y);
        z = z > 0 ? z : 0.2 * z;
        top = std::max(top, z), sum += z;
      }
      near(pooled[b * 2 * channels + c], top);
      near(pooled[(b * 2 + 1) * channels + c], sum / (double)(ptr[b + 1] - ptr[b]));
    }
  for (int64_t i = 0; i < rows; ++i) CHECK(out[i * out_stride + channels] == 7.0f);
}

void faults() {
  Layer layer(3, 16, 4, 1);
  Values a = numbers(3 * 16, 1), ones(16, 1.0f), out(3 * 32);
  std::vector<uint8_t> codes(3 * 64);
  for (int64_t wrong : {int64_t(-1), int64_t(3), INT64_MAX, INT64_MIN}) {
    int64_t neighbors[] = {0, wrong, 2};
    CHECK(geo3d_int8_edge_evaluate(2, 3, 1, 16, a.data(), codes.data(), 64, neighbors, 1, ones.data(), 1, ones.data(),
                                   ones.data(), ones.data(), 0.2f, out.data(), 16) == geo3d::BAD_INDEX);
  }
  int64_t falling[] = {0, 3, 2, 3}, empty[] = {0, 0, 2, 3}, beyond[] = {0, 1, 2, 4};
  for (int64_t* ptr : {falling, empty, beyond}) {
    CHECK(geo3d_int8_linear_pool(1, 3, 16, 4, 3, ptr, layer.q.data(), layer.packed.data(), layer.scale.data(),
                                 layer.shift.data(), 0.2f, out.data(), 32) == geo3d::BAD_OFFSETS);
    CHECK(geo3d_linear_pool_packed(1, 3, 16, 1, 3, ptr, a.data(), 1, a.data(), ones.data(), ones.data(), 0.2f,
                                   out.data(), 32) == geo3d::BAD_OFFSETS);
  }
}

}  // namespace

void test_int8() {
  int64_t told[2];
  CHECK(geo3d_int8_paths(1, -1, told) == 0);
  int64_t before = told[0];
  for (int64_t path = 0; path < 4; ++path) {
    if (!(told[1] >> path & 1)) continue;
    CHECK(geo3d_int8_paths(1, path, told) == 0 && told[0] == path);
    for (int threads : {1, 3}) {
      plain(threads, 1, 1, 1), plain(threads, 5, 3, 2), plain(threads, 33, 70, 20), plain(threads, 400, 150, 131);
      plain(threads, 13, 2, 2048);
      edge(threads, 1, 1, 3, 1, false), edge(threads, 30, 17, 5, 4, true), edge(threads, 200, 300, 9, 20, true);
      edge(threads, 101, 64, 64, 20, false);
      pool(threads, {0, 1}, 5, 2), pool(threads, {0, 7, 8, 230, 620}, 150, 33);
    }
  }
  CHECK(geo3d_int8_paths(1, before, told) == 0);
  for (int threads : {1, 3}) {
    for (int64_t depth : {1, 4, 33, 64}) {
      codes_of_inputs(threads, 250, depth, 255), codes_of_inputs(threads, 2, depth, 3);
    }
    packed_floats(threads, {0, 1}, 1, 1), packed_floats(threads, {0, 9, 10, 300}, 150, 20);
  }
  faults();
}
