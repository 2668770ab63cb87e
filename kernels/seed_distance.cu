/* seed_distance.cu -- k-means++: how close every row would be to its nearest seed, were a candidate one.
 *
 *   proposed[t, i] = min(closest[i], sum_f (x_if - x_candidate(t),f)^2)
 *
 * X (n,d) ROW IN | candidates (n_candidates) i32 IN, row indices | closest (n) f64 IN | proposed (n_candidates,n) f64 OUT
 *                                                                                 all C-contiguous
 * A warp owns a row, its lanes the columns, TOGETHER candidates at a time; the candidates' rows are read where they lie.
 * Grid-stride over the rows.
 * Launch grid any, block 256.   Traffic: ceil(n_candidates/TOGETHER) reads of X (all but the first mostly from cache),
 * 8n read, 8 n n_candidates written.
 * Accuracy: gamma(d + 2) relative (each term: its difference twice, its square once, at most d - 1 additions), besides
 * 2^-1000 for squares that underflow; zero for a row equal to a seed and for no other (2^-1000 at least); the smaller of two
 * such numbers is as good.
 */
#include "common.cuh"

#define THREADS 256
#define TOGETHER 4                     // candidates per reading of the row
#define LEAST __longlong_as_double(0x0170000000000000LL)  // 2^-1000

extern "C" __global__ void __launch_bounds__(THREADS, 4)
seed_distance(const ROW* __restrict__ X, const int* __restrict__ candidates, int n_candidates,
              const double* __restrict__ closest, long long n, int d, double* __restrict__ proposed) {
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const ROW* __restrict__ x = X + i * d;
    for (int t0 = 0; t0 < n_candidates; t0 += TOGETHER) {
      const ROW* seed[TOGETHER];
      double distance[TOGETHER];
      unsigned apart = 0;                // bit t: the row differs from candidate t somewhere
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        seed[t] = X + (long long)candidates[min(t0 + t, n_candidates - 1)] * d;
        distance[t] = 0.0;
      }
      for (int f = lane; f < d; f += WARP) {
        const double value = widen(x[f]);
#pragma unroll
        for (int t = 0; t < TOGETHER; ++t) {
          const double difference = value - widen(seed[t][f]);
          distance[t] = fma(difference, difference, distance[t]);
          apart |= unsigned(difference != 0.0) << t;
        }
      }
#pragma unroll
      for (int half = WARP / 2; half > 0; half /= 2)
#pragma unroll
        for (int t = 0; t < TOGETHER; ++t) distance[t] += __shfl_xor_sync(EVERY_LANE, distance[t], half);
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t)
        if (__any_sync(EVERY_LANE, apart >> t & 1)) distance[t] = fmax(distance[t], LEAST);
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t)
        if (lane == t && t0 + t < n_candidates) proposed[(t0 + t) * n + i] = fmin(distance[t], closest[i]);
    }
  }
}
