// The library's name and fingerprint, and what the machine can run.
#include "api.h"

GEO3D_API const char* geo3d_name() { return GEO3D_NAME; }
GEO3D_API const char* geo3d_fingerprint() { return GEO3D_FINGERPRINT; }

// 0: nothing special, 1: AVX2 with FMA, 2: AVX-512 (F, BW, VL, DQ). Ask the portable library.
GEO3D_API int32_t geo3d_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
              __builtin_cpu_supports("popcnt");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return avx512 ? 2 : avx2 ? 1 : 0;
#else
  return 0;
#endif
}
