/* drift.cuh -- how far the centers went in an update: their exact summed shift, and the drift that limits are held against.
 *
 *   total            = sum_j shift_square[j], exact on a grid, rounded once           (exact/sums.py: exact_total)
 *   drift_so_far[j] += shift_j + the largest shift of another center, scaled, rounded up
 *                      (certificates/drift.py: gap_after_move);
 *                      with n_groups shift_j alone; drift_so_far[k + g] += the largest shift of a center of group g, those
 *                      with j % (2 n_groups) / 2 == g                                (certificates/drift.py: lower_limit)
 *
 * measures (N_MEASURES,k) f64 IN | drift_so_far (k + n_groups) f32 INOUT; THREADS is a multiple of 2 n_groups
 * Called by all threads of one block, after the measures of all blocks are visible.
 */
#pragma once
#include "score_facts.cuh"

struct Shifts {
  double n_empty;        // clusters without weight
  double first, second;  // the largest squared shift, and the largest of another center
  double total;          // of all squared shifts; NaN where a cluster is empty
};

// The shifts of all centers; `total` is thread 0's result.
static __device__ __forceinline__ Shifts shifts_of(const double* measures, int k, double* part, long long* whole_part) {
  const int tid = int(threadIdx.x);
  double first = 0.0, n_empty = 0.0;
  for (int c = tid; c < k; c += THREADS) {
    n_empty += __ldcg(measures + WEIGHT * k + c) == 0.0 ? 1.0 : 0.0;
    first = fmax(first, __ldcg(measures + SHIFT_SQUARE * k + c));
  }
  n_empty = of_block(n_empty, part, Sum());
  first = of_block(first, part, Larger());
  // The largest but one, counting the largest once more if two share it.
  double second = 0.0, n_first = 0.0;
  long long sum0 = 0, sum1 = 0;
  const int bits = min(36, 62 - (32 - __clz(k)));  // exact/sums.py: Grid.for_largest(first, k)
  const double to_limbs = scale_for(first, bits), limb_size = ldexp(1.0, bits);
  for (int c = tid; c < k; c += THREADS) {
    const double shift_square = __ldcg(measures + SHIFT_SQUARE * k + c);
    if (shift_square == first)
      n_first += 1.0;
    else
      second = fmax(second, shift_square);
    if (n_empty == 0.0) {
      const double units = __dmul_rn(shift_square, to_limbs);
      sum0 += first_limb(units);
      sum1 += second_limb(units, limb_size);
    }
  }
  second = of_block(second, part, Larger());
  n_first = of_block(n_first, part, Sum());
  sum0 = of_block(sum0, whole_part, Sum());
  sum1 = of_block(sum1, whole_part, Sum());
  if (n_first > 1.0) second = first;
  const double sum = __dmul_rn(scaled_value(sum0, sum1, true, ldexp(1.0, -bits)), __ddiv_rn(1.0, to_limbs));
  return {n_empty, first, second, n_empty == 0.0 ? sum : NOT_A_NUMBER_64};
}

// Add what the centers drifted; `steps` (THREADS) is shared room.  Not inlined: ptxas then finds registers for all of the
// kernel (CUDA 13.5, sm_120, float64 rows and centers; inlined, 16 bytes spill).
static __device__ __noinline__ void add_drift(const double* measures, int k, int n_groups, const Shifts& shifts,
                                              double half_scale, float* steps, float* __restrict__ drift_so_far) {
  const int tid = int(threadIdx.x);
  const double first = shifts.first, second = shifts.second;
  float farthest = 0.0f;  // that a center of this thread went
  for (int c = tid; c < k; c += THREADS) {
    const double own = __ldcg(measures + SHIFT_SQUARE * k + c);
    // What underflow takes from a square, 2^-1000, comes back; an empty cluster's center is placed by the host.
    const double others = n_groups ? 0.0 : sqrt((own == first ? second : first) + 0x1p-1000);
    const float step = above(__dmul_rn(sqrt(own + 0x1p-1000) + others, half_scale));
    farthest = fmaxf(farthest, step);
    drift_so_far[c] = __fmul_rn(drift_so_far[c] + step, 1.0f + 0x1p-22f);
  }
  if (n_groups) {  // all centers of a thread are of one group
    steps[tid] = farthest;
    __syncthreads();  // every thread's is there
    if (tid < n_groups) {
      float most = 0.0f;
      for (int other = 2 * tid; other < THREADS; other += 2 * n_groups)
        most = fmaxf(most, fmaxf(steps[other], steps[other + 1]));
      drift_so_far[k + tid] = __fmul_rn(drift_so_far[k + tid] + most, 1.0f + 0x1p-22f);
    }
  }
}
