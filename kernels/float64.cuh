/* float64.cuh -- the nearest center of one row by float64 distances, and whether these decide.
 *
 *   D_j = sum_f (x_f - c_jf)^2             for every candidate, or every living center (half_squares[j] > -infinity)
 *   decided: second best - best > radius * (second best + best) + underflow,   or `whole`, or a single candidate
 *
 * radius and underflow: certificates/scores.py: square_distance_radius, and SQUARE_UNDERFLOW; `whole`: these distances carry
 * no error, so that equal ones are true ties.  A warp works on a row, its lanes the columns, TOGETHER centers at a time.
 * Accuracy: gamma(d + 2) relative, in any order and with or without fused operations: radius covers two of them.
 */
#pragma once
#include "common.cuh"

// Centers that distances are taken to, and the error of these.
struct StoredCenters {
  In<CENTER> C;  // (k,d)
  double radius;
  double underflow;
};

#define TOGETHER 4                     // centers per reading of the row

struct Nearest {
  int index;
  bool decided;
};

// candidates: n_candidates of them in rising order, or null: centers 0 .. n_candidates - 1.  The whole warp calls.
static __device__ __forceinline__ Nearest nearest_in_float64(In<ROW> x, const StoredCenters& centers, In<float> half_squares,
                                                             const int* __restrict__ candidates, int n_candidates, int d,
                                                             bool whole) {
  const int lane = lane_index();
  double best = INFINITE_64, second = INFINITE_64;
  int index = -1;
  for (int a0 = 0; a0 < n_candidates; a0 += TOGETHER) {
    In<CENTER> c[TOGETHER];
    double distance[TOGETHER];
#pragma unroll
    for (int t = 0; t < TOGETHER; ++t) {
      const int a = min(a0 + t, n_candidates - 1);
      c[t] = centers.C + (long long)(candidates ? candidates[a] : a) * d;
      distance[t] = 0.0;
    }
    for (int f = lane; f < d; f += WARP) {
      const double value = widen(x[f]);
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        const double difference = value - widen(c[t][f]);
        distance[t] = fma(difference, difference, distance[t]);
      }
    }
#pragma unroll
    for (int half = WARP / 2; half > 0; half /= 2)
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) distance[t] += __shfl_xor_sync(EVERY_LANE, distance[t], half);
#pragma unroll
    for (int t = 0; t < TOGETHER; ++t) {
      if (a0 + t >= n_candidates) continue;
      const int center = candidates ? candidates[a0 + t] : a0 + t;
      if (half_squares[center] == __int_as_float(0xff800000)) continue;  // an equal one stands before it
      if (distance[t] < best) {
        second = best;
        best = distance[t];
        index = center;
      } else {
        second = fmin(second, distance[t]);
      }
    }
  }
  return {index, whole || second == INFINITE_64 || second - best > fma(centers.radius, second + best, centers.underflow)};
}
