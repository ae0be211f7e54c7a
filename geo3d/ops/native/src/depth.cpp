// What a pinhole camera sees of triangles: for each pixel the depth of the nearest one, and which it is.
#include "exact.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "api.h"
#include "clouds.h"
#include "parallel.h"

namespace geo3d {
namespace {

constexpr int64_t BAND = 16;  // rows of the image that one task fills

// A triangle, ready for pixels. The ray through pixel (u, v) is d = ((u - cx) / fx, (v - cy) / fy, 1). With the normals
// n of the planes through the eye and the edges, the ray meets the triangle if the three n . d have the sign of `det`;
// it does so at the depth det / (sum of n . d), whatever lies behind the camera.
struct Triangle {
  double n[3][3], det;
  int64_t left, right, top, bottom;  // the pixels that may see it; none if left > right

  double side(int i, double x, double y) const { return n[i][0] * x + n[i][1] * y + n[i][2]; }
};

// Whether all corners are on the outer side of the plane through the eye and one border of the image.
bool outside(const float* p, int64_t height, int64_t width, const double* camera) {
  double size[2] = {(double)width, (double)height};
  for (int d = 0; d < 2; ++d) {
    double low = (-1 - camera[2 + d]) / camera[d], high = (size[d] - camera[2 + d]) / camera[d];
    bool before = true, behind = true;
    for (int i = 0; i < 3; ++i) before &= p[3 * i + d] < low * p[3 * i + 2], behind &= p[3 * i + d] > high * p[3 * i + 2];
    if (before || behind) return true;
  }
  return false;
}

void cross(const float* a, const float* b, double* out) {
  double ax = a[0], ay = a[1], az = a[2], bx = b[0], by = b[1], bz = b[2];
  out[0] = ay * bz - az * by, out[1] = az * bx - ax * bz, out[2] = ax * by - ay * bx;
}

Triangle prepared(const float* p, int64_t height, int64_t width, const double* camera) {
  Triangle t;
  t.left = 0, t.right = -1, t.top = 0, t.bottom = -1;
  cross(p + 3, p + 6, t.n[0]), cross(p + 6, p, t.n[1]), cross(p, p + 3, t.n[2]);
  t.det = (double)p[0] * t.n[0][0] + (double)p[1] * t.n[0][1] + (double)p[2] * t.n[0][2];
  if (!(t.det != 0) || (p[2] <= 0 && p[5] <= 0 && p[8] <= 0) || outside(p, height, width, camera)) return t;
  t.right = width - 1, t.bottom = height - 1;
  if (p[2] <= 0 || p[5] <= 0 || p[8] <= 0) return t;  // partly behind the camera: its outline is not bounded
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  for (int i = 0; i < 3; ++i)
    for (int d = 0; d < 2; ++d) {
      double place = camera[d] * ((double)p[3 * i + d] / (double)p[3 * i + 2]) + camera[2 + d];
      low[d] = std::min(low[d], place), high[d] = std::max(high[d], place);
    }
  auto within = [](double value, int64_t size) { return std::clamp(value, -2.0, (double)size + 1); };
  t.left = std::max<int64_t>(0, (int64_t)std::floor(within(low[0], width)));
  t.top = std::max<int64_t>(0, (int64_t)std::floor(within(low[1], height)));
  t.right = std::min(width - 1, (int64_t)std::ceil(within(high[0], width)));
  t.bottom = std::min(height - 1, (int64_t)std::ceil(within(high[1], height)));
  return t;
}

void fill(const std::vector<Triangle>& triangles, int64_t begin, int64_t end, int64_t width, const double* camera,
          float* depth, int64_t* face) {
  std::vector<double> nearest((size_t)((end - begin) * width), INFINITY), ray((size_t)width);
  for (int64_t u = 0; u < width; ++u) ray[(size_t)u] = ((double)u - camera[2]) / camera[0];
  std::fill(face + begin * width, face + end * width, -1);
  for (size_t f = 0; f < triangles.size(); ++f) {
    const Triangle& t = triangles[f];
    for (int64_t v = std::max(t.top, begin); v <= std::min(t.bottom, end - 1); ++v) {
      double y = ((double)v - camera[3]) / camera[1];
      double* best = nearest.data() + (v - begin) * width;
      int64_t* own = face + v * width;
      double sign = t.det > 0 ? 1 : -1;
      for (int64_t u = t.left; u <= t.right; ++u) {  // without branches, so that it becomes vector instructions
        double x = ray[(size_t)u], a = t.side(0, x, y), b = t.side(1, x, y), c = t.side(2, x, y);
        double z = t.det / (a + b + c);
        bool met = (sign * a >= 0) & (sign * b >= 0) & (sign * c >= 0) & (z < best[u]);
        best[u] = met ? z : best[u];
        own[u] = met ? (int64_t)f : own[u];
      }
    }
  }
  for (int64_t i = begin * width; i < end * width; ++i)
    depth[i] = face[i] < 0 ? 0.0f : (float)nearest[(size_t)(i - begin * width)];
}

}  // namespace
}  // namespace geo3d

using namespace geo3d;

// corner (faces, 3, 3) in the camera's axes (x right, y down, z forward), camera fx, fy, cx, cy. depth and face
// (height, width): the depth of the nearest triangle and its number, 0 and -1 where there is none.
GEO3D_API int32_t geo3d_depth_image(int32_t threads, int64_t faces, int64_t height, int64_t width, const float* corner,
                                    const double* camera, float* depth, int64_t* face) {
  return guarded([&]() -> int32_t {
    if (!all_finite(corner, 9 * faces)) return NOT_FINITE;
    std::vector<Triangle> triangles((size_t)faces);
    for (int64_t f = 0; f < faces; ++f) triangles[(size_t)f] = prepared(corner + 9 * f, height, width, camera);
    parallel(threads, (height + BAND - 1) / BAND, [&](int64_t band) {
      fill(triangles, band * BAND, std::min(height, (band + 1) * BAND), width, camera, depth, face);
    });
    return OK;
  });
}
