// Rounding to few levels with a learned step and offset (LSQ+): values, gradients and codes, each in one pass.
//
// x (rows, columns); t = (x - offset) / step by a true division, never a product with 1 / step: torch, every build and
// the layers on codes must find the same codes. Groups (one step and offset each) are equal runs of rows or, with
// by_column, the columns. NaN passes through values and gradients; as a code it is a fault.
#include "exact.h"

#include <algorithm>

#include "api.h"
#include "parallel.h"
#include "simd.h"

namespace geo3d {
namespace {

constexpr int64_t BLOCK = 4096;       // values of a run that are added up in single precision
constexpr int64_t TASK = 1 << 14;     // values of a task, about
constexpr int64_t SUMS = 256;         // sums over blocks that a task makes
constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds small numbers to integers, half to even

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

struct Range {
  Floats low, high;
  Range(float lowest, float highest) : low(splat(lowest)), high(splat(highest)) {}
  Floats clamp(Floats t) const {  // NaN stays
    t = t < low ? low : t;
    return t > high ? high : t;
  }
  Floats code(Floats t) const { return (clamp(t) + MAGIC) - MAGIC; }
  Bytes byte(Floats t) const {  // the last bits of the sum are those of the integer, signed or not
    Floats sum = clamp(t) + MAGIC;
    Ints bits;
    std::memcpy(&bits, &sum, sizeof bits);
    return __builtin_convertvector(bits & 255, Bytes);
  }
};

// The gradient of a value, and its contributions to the gradients of step and offset.
struct Gradients {
  Floats x, step, offset;
};

Gradients gradients(const Range& range, Floats grad, Floats t) {
  Ints inside = (t > range.low) & (t < range.high);
  Floats code = range.code(t), none{};
  return {inside ? grad : none, (inside ? code - t : code) * grad, inside ? none : grad};
}

inline Floats take(const float* p, int64_t count, float rest = 0.0f) {
  return count == LANES ? load(p) : load_part(p, count, splat(rest));
}
inline void put(float* p, int64_t count, Floats v) { count == LANES ? store(p, v) : store_part(p, count, v); }
inline void put(uint8_t* p, int64_t count, Bytes v) { std::memcpy(p, &v, (size_t)count); }

// Calls f(first, count, seen) for vectors that cover n values. The last vector includes `seen` values that were done
// already, which is faster than a partial vector; count is below LANES only if n is.
template <class F>
inline void each_vector(int64_t n, F&& f) {
  int64_t c = 0;
  for (; c + LANES <= n; c += LANES) f(c, (int64_t)LANES, (int64_t)0);
  if (c < n && n > LANES) f(n - LANES, (int64_t)LANES, c - (n - LANES));
  if (c < n && n < LANES) f(c, n, (int64_t)0);
}

struct Matrix {
  int64_t rows, columns, groups;
  bool by_column;
  const float *x, *step, *offset;  // (rows, columns), (groups,), (groups,) or null

  // What follows is for groups of rows: length values each, in pieces.
  int64_t length() const { return rows * columns / groups; }
  int64_t pieces() const { return ceil_div(length(), BLOCK); }

  // Where the vector is, in units of steps.
  Floats position(int64_t at, int64_t count, Floats s, Floats o) const { return (take(x + at, count) - o) / s; }

  // Calls f(piece, first value, end, step, offset) for the pieces of all groups, which are numbered through.
  template <class F>
  void each_piece(int32_t threads, F&& f) const {
    int64_t count = groups * pieces(), batch = std::max<int64_t>(1, TASK / std::max<int64_t>(1, length()));
    parallel(threads, ceil_div(count, batch), [&](int64_t task) {
      for (int64_t i = task * batch; i < std::min(count, (task + 1) * batch); ++i) {
        int64_t group = i / pieces(), start = i % pieces() * BLOCK, first = group * length();
        f(i, first + start, first + std::min(length(), start + BLOCK), splat(step[group]),
          splat(offset ? offset[group] : 0.0f));
      }
    });
  }

  int64_t height() const { return std::max<int64_t>(64, TASK / std::max<int64_t>(1, columns)); }  // rows of a block
  int64_t blocks() const { return ceil_div(rows, height()); }

  // Calls f(block, first value of a row, column, count, seen, step, offset) for all vectors of all rows.
  template <class F>
  void each_row(int32_t threads, F&& f) const {
    parallel(threads, blocks(), [&](int64_t block) {
      for (int64_t i = block * height(); i < std::min(rows, (block + 1) * height()); ++i)
        each_vector(columns, [&](int64_t c, int64_t count, int64_t seen) {
          Floats o = offset ? take(offset + c, count) : Floats{};
          f(block, i * columns, c, count, seen, take(step + c, count, 1.0f), o);
        });
    });
  }

  // Calls f(first value, count, step, offset) for vectors that cover all values, some of them twice.
  template <class F>
  void each(int32_t threads, F&& f) const {
    if (by_column)
      return each_row(threads, [&](int64_t, int64_t row, int64_t c, int64_t count, int64_t, Floats s, Floats o) {
        f(row + c, count, s, o);
      });
    each_piece(threads, [&](int64_t, int64_t start, int64_t stop, Floats s, Floats o) {
      each_vector(stop - start, [&](int64_t c, int64_t count, int64_t) { f(start + c, count, s, o); });
    });
  }
};

Floats unseen(Floats v, int64_t seen) { return iota() >= splat((int32_t)seen) ? v : Floats{}; }

struct Back {
  const Matrix& matrix;
  Range range;
  const float* grad;
  float* of_x;

  Gradients at(int64_t first, int64_t count, int64_t seen, Floats s, Floats o) const {
    Gradients g = gradients(range, take(grad + first, count), matrix.position(first, count, s, o));
    put(of_x + first, count, g.x);
    if (seen) g.step = unseen(g.step, seen), g.offset = unseen(g.offset, seen);
    return g;
  }

  void by_row(int32_t threads, float* of_step, float* of_offset) const {
    int64_t pieces = matrix.pieces();
    Scratch<float> parts(matrix.groups * pieces * 2 * LANES);
    matrix.each_piece(threads, [&](int64_t piece, int64_t start, int64_t stop, Floats s, Floats o) {
      Floats step{}, offset{};
      each_vector(stop - start, [&](int64_t c, int64_t count, int64_t seen) {
        Gradients g = at(start + c, count, seen, s, o);
        step += g.step, offset += g.offset;
      });
      store(parts + piece * 2 * LANES, step), store(parts + (piece * 2 + 1) * LANES, offset);
    });
    for (int64_t group = 0; group < matrix.groups; ++group) {
      double sum[2] = {};
      for (int64_t i = group * pieces * 2; i < (group + 1) * pieces * 2; ++i)
        for (int q = 0; q < LANES; ++q) sum[i % 2] += parts[i * LANES + q];
      of_step[group] = (float)sum[0], of_offset[group] = (float)sum[1];
    }
  }

  void by_column(int32_t threads, float* of_step, float* of_offset) const {
    int64_t columns = matrix.columns, width = 2 * columns, blocks = matrix.blocks();
    Scratch<float> parts(blocks * width);
    std::fill((float*)parts, parts + blocks * width, 0.0f);
    matrix.each_row(threads, [&](int64_t block, int64_t row, int64_t c, int64_t count, int64_t seen, Floats s, Floats o) {
      Gradients g = at(row + c, count, seen, s, o);
      float *step = parts + block * width + c, *offset = step + columns;
      put(step, count, take(step, count) + g.step), put(offset, count, take(offset, count) + g.offset);
    });
    parallel(threads, ceil_div(width, SUMS), [&](int64_t task) {
      int64_t first = task * SUMS, count = std::min(SUMS, width - first);
      double sum[SUMS] = {};
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t i = 0; i < count; ++i) sum[i] += parts[block * width + first + i];
      for (int64_t i = 0; i < count; ++i)
        (first + i < columns ? of_step[first + i] : of_offset[first + i - columns]) = (float)sum[i];
    });
  }
};

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// out (rows, columns): round(clamp(t, low, high)) * step + offset, in two roundings.
GEO3D_API int32_t geo3d_fake_quantize(int32_t threads, int64_t rows, int64_t columns, int64_t groups, int64_t by_column,
                                      const float* x, const float* step, const float* offset, float low, float high,
                                      float* out) {
  return guarded([&] {
    Matrix matrix{rows, columns, groups, by_column != 0, x, step, offset};
    Range range(low, high);
    matrix.each(threads, [&](int64_t at, int64_t count, Floats s, Floats o) {
      put(out + at, count, range.code(matrix.position(at, count, s, o)) * s + o);
    });
    return OK;
  });
}

// of_x (rows, columns), of_step and of_offset (groups,): the gradients, from grad (rows, columns).
GEO3D_API int32_t geo3d_fake_quantize_backward(int32_t threads, int64_t rows, int64_t columns, int64_t groups,
                                               int64_t by_column, const float* grad, const float* x, const float* step,
                                               const float* offset, float low, float high, float* of_x, float* of_step,
                                               float* of_offset) {
  return guarded([&] {
    Matrix matrix{rows, columns, groups, by_column != 0, x, step, offset};
    Back back{matrix, Range(low, high), grad, of_x};
    by_column ? back.by_column(threads, of_step, of_offset) : back.by_row(threads, of_step, of_offset);
    return OK;
  });
}

// codes (rows, columns): bytes, signed if low is negative.
GEO3D_API int32_t geo3d_quantize(int32_t threads, int64_t rows, int64_t columns, int64_t groups, int64_t by_column,
                                 const float* x, const float* step, const float* offset, float low, float high,
                                 uint8_t* codes) {
  return guarded([&]() -> int32_t {
    Matrix matrix{rows, columns, groups, by_column != 0, x, step, offset};
    Range range(low, high);
    Fault fault;
    constexpr uint32_t ALL = (1u << LANES) - 1;
    matrix.each(threads, [&](int64_t at, int64_t count, Floats s, Floats o) {
      Floats t = matrix.position(at, count, s, o);
      if (less_equal_bits(t, t) != ALL) fault.raise(NOT_FINITE);
      put(codes + at, count, range.byte(t));
    });
    return fault.status();
  });
}
