// Depth images against rays that meet triangles one by one.
#include <algorithm>
#include <cmath>

#include "../src/api.h"
#include "check.h"

GEO3D_API int32_t geo3d_depth_image(int32_t, int64_t, int64_t, int64_t, const float*, const double*, float*, int64_t*);

namespace {

// Depth at which the ray (x, y, 1) meets a triangle; infinity if it does not.
double met(const float* p, double x, double y) {
  double n[3][3], side[3];
  for (int i = 0; i < 3; ++i) {
    const float *a = p + 3 * ((i + 1) % 3), *b = p + 3 * ((i + 2) % 3);
    n[i][0] = (double)a[1] * b[2] - (double)a[2] * b[1];
    n[i][1] = (double)a[2] * b[0] - (double)a[0] * b[2];
    n[i][2] = (double)a[0] * b[1] - (double)a[1] * b[0];
    side[i] = n[i][0] * x + n[i][1] * y + n[i][2];
  }
  double det = p[0] * n[0][0] + p[1] * n[0][1] + p[2] * n[0][2], sum = side[0] + side[1] + side[2];
  bool same = (side[0] >= 0 && side[1] >= 0 && side[2] >= 0) || (side[0] <= 0 && side[1] <= 0 && side[2] <= 0);
  double z = det / sum;
  return same && std::isfinite(z) && z > 0 ? z : INFINITY;
}

}  // namespace

void test_depth() {
  constexpr int64_t FACES = 40, HEIGHT = 37, WIDTH = 21;
  std::vector<float> corner = numbers(9 * FACES, 11);  // all around the camera, some behind it, some across
  double camera[4] = {14, 15, 9.5, 17.25};
  std::vector<float> depth(HEIGHT * WIDTH);
  std::vector<int64_t> face(HEIGHT * WIDTH);
  for (int32_t threads : {1, 3}) {
    CHECK(geo3d_depth_image(threads, FACES, HEIGHT, WIDTH, corner.data(), camera, depth.data(), face.data()) ==
          geo3d::OK);
    int64_t seen = 0;
    for (int64_t v = 0; v < HEIGHT; ++v)
      for (int64_t u = 0; u < WIDTH; ++u) {
        double x = ((double)u - camera[2]) / camera[0], y = ((double)v - camera[3]) / camera[1], z = INFINITY;
        for (int64_t f = 0; f < FACES; ++f) z = std::min(z, met(corner.data() + 9 * f, x, y));
        float there = depth[(size_t)(v * WIDTH + u)];
        CHECK((there == 0) == std::isinf(z) && (face[(size_t)(v * WIDTH + u)] < 0) == std::isinf(z));
        if (there == 0) continue;
        CHECK(std::abs(there - z) <= 1e-5 * z);
        ++seen;
      }
    CHECK(seen > HEIGHT * WIDTH / 4);
  }
  CHECK(geo3d_depth_image(1, 0, 2, 2, corner.data(), camera, depth.data(), face.data()) == geo3d::OK && face[3] == -1);
  corner[5] = NAN;
  CHECK(geo3d_depth_image(1, FACES, 2, 2, corner.data(), camera, depth.data(), face.data()) == geo3d::NOT_FINITE);
}
