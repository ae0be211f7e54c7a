// Sums of products of codes on tiles, with the best instructions that the processor has, chosen at run time.
#include <atomic>
#include <utility>
#if defined(__AVX2__)
#include <cpuid.h>
#endif

#include "api.h"
#include "int8.h"

namespace geo3d {
namespace {

typedef int32_t EightInts __attribute__((vector_size(32)));

// Each path has ROWS and PANELS, as many as its registers hold; Vector; and dot, which adds to each int32 of sum the
// products of the four unsigned bytes of x and the four signed bytes of w. New instructions are inline assembly, so
// that no file or function needs a compiler flag that would allow them elsewhere.

struct Portable {
  static constexpr int ROWS = 4, PANELS = 1;
  using Vector = Ints;
  typedef int16_t Shorts __attribute__((vector_size(LANES * 4)));
  typedef uint16_t Unsigned __attribute__((vector_size(LANES * 4)));
  typedef uint32_t Words __attribute__((vector_size(LANES * 4)));

  static Vector dot(Vector sum, Vector x, Vector w) {
    Shorts even = (Shorts)((Unsigned)x & 255) * ((Shorts)((Unsigned)w << 8) >> 8);
    Shorts pairs = even + (Shorts)((Unsigned)x >> 8) * ((Shorts)w >> 8);
    return sum + ((Ints)pairs >> 16) + ((Ints)((Words)pairs << 16) >> 16);
  }
};

#if defined(__AVX2__)
struct Avx2 {
  static constexpr int ROWS = 4, PANELS = 1;
  using Vector = EightInts;
  static Vector dot(Vector sum, Vector x, Vector w) {
    __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
    return sum + (EightInts)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
};

struct Vnni256 {
  static constexpr int ROWS = 6, PANELS = 1;
  using Vector = EightInts;
  static Vector dot(Vector sum, Vector x, Vector w) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
  }
};
#endif

#if defined(__AVX512F__)
struct Vnni512 {
  static constexpr int ROWS = TILE_ROWS, PANELS = TILE_PANELS;
  using Vector = Ints;
  static Vector dot(Vector sum, Vector x, Vector w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
};
#endif

template <class Path, int R, int P>
void tile(const uint8_t* q, int64_t stride, const int8_t* panel, int64_t groups, int32_t* acc) {
  using Vector = typename Path::Vector;
  constexpr int WIDE = P < Path::PANELS ? P : Path::PANELS, LANES_OF = sizeof(Vector) / 4, V = (int)PANEL / LANES_OF;
  if (P > WIDE) {
    for (int p = 0; p < P; ++p)
      tile<Path, R, 1>(q, stride, panel + p * groups * GROUP * PANEL, groups, acc + p * PANEL);
    return;
  }
  Vector sum[R][WIDE * V];
  const uint8_t* base[(R + 2) / 3];  // three rows share a base address, as in gemm.h
#pragma GCC unroll 4
  for (int g = 0; g < (R + 2) / 3; ++g) base[g] = q + 3 * g * stride;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < WIDE * V; ++v) sum[r][v] = Vector{};
  for (int64_t k = 0; k < groups; ++k, panel += GROUP * PANEL) {
    Vector w[WIDE * V];
#pragma GCC unroll 8
    for (int v = 0; v < WIDE * V; ++v)
      std::memcpy(&w[v], panel + v / V * groups * GROUP * PANEL + v % V * (int)sizeof(Vector), sizeof(Vector));
#pragma GCC unroll 4
    for (int g = 0; g < (R + 2) / 3; ++g) {
      const uint8_t* from = base[g];
      base[g] += GROUP;
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        int r = 3 * g + i;
        if (r >= R) break;
        int32_t four;
        std::memcpy(&four, from + i * stride, sizeof four);
        Vector x = four - Vector{};
#pragma GCC unroll 8
        for (int v = 0; v < WIDE * V; ++v) sum[r][v] = Path::dot(sum[r][v], x, w[v]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < WIDE * V; ++v) std::memcpy(acc + r * TILE_COLUMNS + v * LANES_OF, &sum[r][v], sizeof(Vector));
}

template <class Path, int... R>
constexpr Products tiles(std::integer_sequence<int, R...>) {
  return {Path::ROWS, {{tile<Path, R + 1, 1>...}, {tile<Path, R + 1, 2>...}}};
}

template <class Path>
constexpr Products tiles() {
  return tiles<Path>(std::make_integer_sequence<int, Path::ROWS>());
}

// In the order of PATHS in geo3d/ops/quant/int8.py.
constexpr Products PATHS[] = {
    tiles<Portable>(),
#if defined(__AVX2__)
    tiles<Avx2>(), tiles<Vnni256>(),
#endif
#if defined(__AVX512F__)
    tiles<Vnni512>(),
#endif
};

// Bit i tells that path i can be used.
int64_t usable() {
  int64_t paths = 1;
#if defined(__AVX2__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  bool has_leaf = __get_cpuid_count(7, 0, &a, &b, &c, &d);
  unsigned leaves = a;
  paths |= 1 << 1;
#if defined(__AVX512F__)
  if (has_leaf && c >> 11 & 1) paths |= 1 << 3;
#endif
  if (has_leaf && leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1) paths |= 1 << 2;
#endif
  return paths;
}

int best() {
  int path = 0;
  while (usable() >> (path + 1)) ++path;
  return path;
}

std::atomic<int>& chosen() {
  static std::atomic<int> path{best()};
  return path;
}

}  // namespace

const Products& products() { return PATHS[chosen().load(std::memory_order_relaxed)]; }

}  // namespace geo3d

using namespace geo3d;

// told (2,): the path in use, and a bit for each path that can be used. Uses path `choice` from now on if it is one.
GEO3D_API int32_t geo3d_int8_paths(int32_t, int64_t choice, int64_t* told) {
  if (choice >= 0 && choice < 8 && usable() >> choice & 1) chosen().store((int)choice);
  told[0] = chosen().load(), told[1] = usable();
  return OK;
}
