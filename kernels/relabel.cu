/* relabel.cu -- the labels become the new ones; the clusters' weights and the number of moved rows follow.
 *
 *   for every row i with labels[i] != old_labels[i]:   weight_sums[l, old] -= limb_l(w_i), weight_sums[l, new] += limb_l(w_i)
 *                                                      old_labels[i] = labels[i];  counters[2] += 1
 *
 * w_i is weights[i] (WEIGHTED) or 1; limbs as in exact_sums.Grid.limbs, of one column.  With weight_sums null only labels
 * and the count follow.
 *
 * weights (n) f64 IN or null | labels (n) i32 IN | old_labels (n) i32 INOUT | weight_sums (LIMBS,k) i64 INOUT or null |
 * counters (3) i32 INOUT                                                          all C-contiguous
 * A thread owns every THREADS-th row of its block's `rows_per_block`.  With SHARED a block adds its rows in shared memory,
 * (LIMBS,k) of int (WEIGHTED: i64), before one global atomic per touched cluster.
 * Launch grid ceil(n/rows_per_block), block 256, shared LIMBS*k*(WEIGHTED ? 8 : 4) bytes or 0.
 * Traffic: 8n read, 4 written per moved row (and 8 read where WEIGHTED).   Accuracy: exact on the grid.
 */
#include "common.cuh"

#define THREADS 256

static_assert(WEIGHTED || LIMBS == 1, "without weights there is one limb: the count");

#if WEIGHTED
typedef long long Share;
#else
typedef int Share;                     // shared memory adds ints in hardware, 64-bit integers in a loop
#endif

static __device__ __forceinline__ void add_share(int* target, int value) { atomicAdd(target, value); }
static __device__ __forceinline__ void add_share(long long* target, long long value) { atomic_add(target, value); }

extern "C" __global__ void __launch_bounds__(THREADS)
relabel(const double* __restrict__ weights, double scale, double limb_size, long long n, int k, int rows_per_block,
        const int* __restrict__ labels, int* __restrict__ old_labels, long long* __restrict__ weight_sums,
        int* __restrict__ counters) {
#if SHARED
  extern __shared__ Share share[];
  if (weight_sums)
    for (int c = int(threadIdx.x); c < LIMBS * k; c += THREADS) share[c] = 0;
  __syncthreads();  // all are cleared
#endif
  const auto add = [&](int cluster, Share limb) {
#if SHARED
    add_share(share + cluster, limb);
#else
    atomic_add(weight_sums + cluster, (long long)limb);
#endif
  };
  const long long start = (long long)blockIdx.x * rows_per_block;
  const long long stop = min(n, start + rows_per_block);
  int n_moved = 0;
  for (long long i = start + threadIdx.x; i < stop; i += THREADS) {
    const int from = old_labels[i], to = labels[i];
    if (from == to) continue;
    old_labels[i] = to;
    ++n_moved;
    if (!weight_sums) continue;
#if WEIGHTED
    const double scaled = __dmul_rn(weights[i], scale);
    const Share limb0 = first_limb(scaled);
    if (LIMBS == 2) {
      const Share limb1 = second_limb(scaled, limb_size);
      if (from >= 0) add(k + from, -limb1);
      add(k + to, limb1);
    }
#else
    const Share limb0 = 1;
#endif
    if (from >= 0) add(from, -limb0);
    add(to, limb0);
  }
  __syncwarp();
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) n_moved += __shfl_xor_sync(EVERY_LANE, n_moved, half);
  if (lane_index() == 0 && n_moved) atomicAdd(counters + 2, n_moved);
#if SHARED
  __syncthreads();  // all have added
  if (weight_sums)
    for (int c = int(threadIdx.x); c < LIMBS * k; c += THREADS)
      if (share[c]) atomic_add(weight_sums + c, (long long)share[c]);
#endif
}
