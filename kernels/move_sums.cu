/* move_sums.cu -- the exact sums follow the rows whose label changed.
 *
 *   for every row i with labels[i] != old_labels[i]:   sums[l, old, f] -= limb_l(y_if)  (where old >= 0)
 *                                                      sums[l, new, f] += limb_l(y_if)
 *   y_if = x_if * weights[i] (one rounding), limbs as in exact_sums.Grid.limbs
 *
 * X (n,d) ROW IN | weights (n) f64 IN or null | scale (d) f64 IN | old_labels, labels (n) i32 IN |
 * sums (LIMBS,k,d) i64 INOUT                                                      all C-contiguous
 * A block owns `rows_per_block` rows and blockDim.x columns; blockDim.y groups of threads take turns at its moved rows.
 * With SHARED every thread first adds into a column of its own in shared memory, (LIMBS,k,THREADS) i64: no two threads
 * touch the same word, and a cluster that takes in every row (the first assignment) costs each block one global atomic per
 * feature, not one per row.  Without (many clusters, hence little contention) rows go straight to global atomics.
 * Integer addition is associative: no order of blocks or threads changes a bit.
 * Launch grid (ceil(n/rows_per_block), ceil(d/blockDim.x)), block (F, THREADS/F), shared 8*LIMBS*k*THREADS bytes or 0.
 * Traffic: 8n bytes of labels per column of blocks, the moved rows once, and the touched sums.
 * Accuracy: exact on the grid.
 */
#include "common.cuh"

#define THREADS 128
#define AHEAD 4                        // rows whose values are fetched before the first is added

static_assert(LIMBS == 1 || LIMBS == 2, "a value has one limb or two");

extern "C" __global__ void __launch_bounds__(THREADS)
move_sums(const ROW* __restrict__ X, const double* __restrict__ weights, const double* __restrict__ scale,
          double limb_size, long long n, int k, int d, int rows_per_block, const int* __restrict__ old_labels,
          const int* __restrict__ labels, long long* __restrict__ sums) {
  __shared__ int moved_row[THREADS], moved_from[THREADS], moved_to[THREADS];
  __shared__ int n_listed[2];          // of this batch and of the next, so that clearing one needs no barrier of its own
#if SHARED
  extern __shared__ long long column[];
#endif
  const int F = int(blockDim.x), groups = int(blockDim.y), group = int(threadIdx.y);
  const int tid = group * F + int(threadIdx.x);
  const int f = int(blockIdx.y) * F + int(threadIdx.x);
  const double unit = f < d ? scale[f] : 0.0;
  const long long start = (long long)blockIdx.x * rows_per_block;
  const long long stop = min(n, start + rows_per_block);
  const long long plane = (long long)k * d;
  bool any = false;

  const auto add = [&](int cluster, long long limb0, long long limb1) {
#if SHARED
    column[cluster * THREADS + tid] += limb0;
    if (LIMBS == 2) column[(k + cluster) * THREADS + tid] += limb1;
#else
    long long* target = sums + (long long)cluster * d + f;
    atomic_add(target, limb0);
    if (LIMBS == 2) atomic_add(target + plane, limb1);
#endif
  };

  if (tid < 2) n_listed[tid] = 0;
  __syncthreads();
  int batch = 0;
  for (long long i0 = start; i0 < stop; i0 += THREADS, batch ^= 1) {
    const long long i = i0 + tid;
    if (i < stop) {
      const int from = old_labels[i], to = labels[i];
      if (from != to) {
        const int place = atomicAdd(&n_listed[batch], 1);
        moved_row[place] = int(i);
        moved_from[place] = from;
        moved_to[place] = to;
      }
    }
    __syncthreads();  // the list is complete
    const int n_moved = n_listed[batch];
    if (n_moved > 0 && f < d) {
#if SHARED
      if (!any)
        for (int c = 0; c < LIMBS * k; ++c) column[c * THREADS + tid] = 0;
#endif
      for (int e0 = group; e0 < n_moved; e0 += AHEAD * groups) {
        double value[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
          const int e = e0 + a * groups;
          value[a] = e < n_moved ? widen(X[(long long)moved_row[e] * d + f]) : 0.0;
        }
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
          const int e = e0 + a * groups;
          if (e >= n_moved) break;
          const double y = weights ? __dmul_rn(value[a], weights[moved_row[e]]) : value[a];
          const double scaled = __dmul_rn(y, unit);
          const long long limb0 = first_limb(scaled);
          const long long limb1 = LIMBS == 2 ? second_limb(scaled, limb_size) : 0;
          if (moved_from[e] >= 0) add(moved_from[e], -limb0, -limb1);
          add(moved_to[e], limb0, limb1);
        }
      }
    }
    any = any || n_moved > 0;
    __syncthreads();  // the list has been read
    if (tid == 0) n_listed[batch] = 0;
  }

#if SHARED
  if (!any) return;
  const int columns = min(F, d - int(blockIdx.y) * F);
  for (int t = tid; t < LIMBS * k * F; t += THREADS) {
    const int c = t / F, own = t % F;
    if (own >= columns) continue;
    long long total = 0;
    for (int g = 0; g < groups; ++g) total += column[c * THREADS + g * F + own];
    if (total) atomic_add(sums + (long long)c * d + int(blockIdx.y) * F + own, total);
  }
#endif
}
