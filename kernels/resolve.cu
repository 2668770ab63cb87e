/* resolve.cu -- the rows that the screen left open: float64 distances, and which rows these decide.
 *
 *   D_ij      = sum_f (x_if - c_jf)^2                for every living center j (no equal center stands before it)
 *   labels[i] = argmin_j D_ij                        (ties: lowest j)
 *   decided   : second best - best > radius * (second best + best) + underflow,   or `whole`, or one living center
 *
 * radius and underflow are certificates.square_distance_radius and SQUARE_UNDERFLOW; `whole` says that these distances
 * carry no error, so that equal ones are true ties.  Rows not decided keep their old label for now, are appended to
 * `exact_rows` and counted in counters[1]: they are the host's (tie_break.resolve).
 *
 * X (n,d) ROW IN | C (k,d) CENTER IN | alive (n_alive) i32 IN, rising | undecided (n) i32 IN | old_labels (n) i32 IN |
 * labels (n) i32 OUT | exact_rows (n) i32 OUT | counters (3) i32 INOUT: [0] undecided rows IN, [1] OUT   all C-contiguous
 * A warp owns an undecided row, its lanes the columns, TOGETHER centers at a time; grid-stride over a count that is read
 * on the device, so the host need not wait for it.
 * Launch grid any, block 128.   Traffic: undecided * d row elements, as many times the living centers from L2.
 * Accuracy: gamma(d + 2) relative, in any order and with or without fused operations: radius covers two of them.
 */
#include "common.cuh"

#define THREADS 128
#define TOGETHER 4                     // centers per reading of the row; 4 sums of 2 registers each
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)

extern "C" __global__ void __launch_bounds__(THREADS, 8)
resolve(const ROW* __restrict__ X, const CENTER* __restrict__ C, const int* __restrict__ alive, int n_alive, int d,
        double radius, double underflow, int whole, const int* __restrict__ undecided,
        const int* __restrict__ old_labels, int* __restrict__ labels, int* __restrict__ exact_rows, int* counters) {
  const int lane = lane_index(), n_undecided = counters[0];
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long e = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; e < n_undecided; e += stride) {
    const int i = undecided[e];
    const ROW* __restrict__ x = X + (long long)i * d;
    double best = INFINITE, second = INFINITE;
    int index = alive[0];
    for (int a0 = 0; a0 < n_alive; a0 += TOGETHER) {
      const CENTER* c[TOGETHER];
      double distance[TOGETHER];
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        c[t] = C + (long long)alive[min(a0 + t, n_alive - 1)] * d;
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
        if (a0 + t >= n_alive) continue;
        if (distance[t] < best) {
          second = best;
          best = distance[t];
          index = alive[a0 + t];
        } else {
          second = fmin(second, distance[t]);
        }
      }
    }
    if (lane == 0) {
      const bool decided = whole || n_alive == 1 || second - best > fma(radius, second + best, underflow);
      labels[i] = decided ? index : old_labels[i];
      if (!decided) exact_rows[atomicAdd(counters + 1, 1)] = i;
    }
  }
}
