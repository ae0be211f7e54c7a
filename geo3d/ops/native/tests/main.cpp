// Runs every kernel on small, odd and faulty inputs against plain loops; meant to be built with sanitizers.
#include <cstdint>
#include <cstdio>

#include "../src/api.h"

GEO3D_API int32_t geo3d_level();

void test_gemm();
void test_edge();
void test_gather();
void test_pool();
void test_parallel();
void test_knn();
void test_fps();
void test_ball();
void test_nearest();
void test_voxel();
void test_depth();
void test_set_abstraction();
void test_int8();
void test_quantize();
void test_sliding();
void test_refine();

int main() {
#if defined(__AVX512F__)
  constexpr int32_t needed = 2;
#elif defined(__AVX2__)
  constexpr int32_t needed = 1;
#else
  constexpr int32_t needed = 0;
#endif
  if (geo3d_level() < needed) return std::puts("skipped: this processor does not run these instructions"), 0;
  test_parallel();
  test_gemm();
  test_edge();
  test_gather();
  test_pool();
  test_knn();
  test_fps();
  test_ball();
  test_nearest();
  test_voxel();
  test_depth();
  test_set_abstraction();
  test_int8();
  test_quantize();
  test_sliding();
  test_refine();
  std::puts("all kernels passed");
}
