/* update_centers.cu -- new centers from the exact sums, all that the next assignment reads of them, and whether to go on.
 *
 *   weights[j], C[j, f] from the limbs of their sums                        (means.cuh)
 *   shift_square[j] = sum_f (C[j, f] - previous[j, f])^2 in float64, warp order    (exact/warp_order.py)
 * with GIVEN the centers stay as they are, and only what follows is done:
 *   z_j = c_j HALF_SCALE + offset, rounded to halves; half_squares[j] = -|z_j|^2 / 2       (screen.cuh)
 *   norms[j] >= |z_j| + rests[j], rests[j] >= |z_j - h_j|;  largest[j] = max |c_jf| if all are whole numbers, else infinity
 *   whether another center may be equal                                    (equal_centers.cuh)
 * with SPARSE, for rows in CSR (sparse_nearest.cu), z_j = c_j HALF_SCALE is not rounded: columns[f, j] = C[j, f] instead of
 * half_centers, half_squares in float64, and offsets and n_steps are not looked at
 * and the last block to finish, for all centers:
 *   facts            what the radius of a score is made of                 (score_facts.cuh)
 *   drift_so_far     how far centers have drifted                          (drift.cuh)
 *   history, control the record of the iteration, and whether to go on     (stopping.cuh)
 *
 * sums (n_limbs,k,d) i64 IN | weight_sums (n_limbs,k) i64 IN | unit (d) f64 IN, 1 / scale of the grid | scales (SCALE_WORDS) f64
 * IN | C, previous (k,d) CENTER INOUT, OUT | offsets (16 n_steps) f32 IN | half_centers u16 OUT: screen.cuh, zeros beyond k and d
 * before | half_squares (n_padded) f32 OUT, of which k (SPARSE: columns (d,n_padded) CENTER OUT, zeros beyond k before, and
 * half_squares f64) | measures (5,k) f64 OUT: weights, shift_square, norms, rests, largest
 * | facts OUT | drift_so_far (k + n_groups) f32 INOUT; 256 is a multiple of 2 n_groups | table (n_slots) u64 INOUT:
 * hashes of centers, of which only those of this EPOCH count | tolerance (1) f64 IN | history (n_history,HISTORY_WORDS)
 * f64 OUT, at control[N_DONE] | control INOUT                                                          all C-contiguous
 * Several runs (blockIdx.y) of several problems (blockIdx.z): unit, scales and offsets hold one problem after another, all else
 * one run after another.
 * A block owns a center, its threads the columns; warp 0 adds the shift in warp order, CHUNK columns at a time.
 * Launch grid (k, runs, problems), block 256, shared 8.6 KiB (static).
 * Traffic: 8 k d n_limbs read, k d centers read and written twice, 2 k d written; 5 numbers a center for the last block.
 * Accuracy: centers and shifts by the same operations as NumPy's, one by one, for the same bits; the one fused
 * multiply-add among them is an error-free product's error, which NumPy finds by splitting.
 * Tests: python -m pytest tests/kernels/test_update_centers.py tests/kernels/test_center_facts.py tests/kernels/test_center_drift.py tests/kernels/test_equal_centers.py
 */
#define THREADS 256
#define N_WARPS (THREADS / WARP)
#include "screen.cuh"
#include "equal_centers.cuh"
#include "stopping.cuh"
#include "means.cuh"

#define CHUNK 1024

#if SPARSE
typedef CENTER Copy;                   // how the screen reads centers,
typedef double HalfSquare;             // and what its scores start from
#else
typedef unsigned short Copy;
typedef float HalfSquare;
#endif

static_assert(CHUNK % WARP == 0, "a chunk must end where a lane's turn begins again");

extern "C" __global__ void __launch_bounds__(THREADS, 3)
update_centers(const long long* __restrict__ sums, const long long* __restrict__ weight_sums,
               const double* __restrict__ unit, const double* __restrict__ scales, int n_limbs, double limb_unit,
               double weight_unit, int n_padded, int k, int d, CENTER* C, CENTER* __restrict__ previous,
               const float* __restrict__ offsets, int n_steps, Copy* __restrict__ half_centers,
               HalfSquare* __restrict__ half_squares, double* measures, double accumulation,
               float* __restrict__ facts, float* __restrict__ drift_so_far, int n_groups, unsigned long long* table,
               int n_slots, const double* __restrict__ tolerance, double* __restrict__ history, int n_history, int* control) {
  __shared__ double square_differences[CHUNK];
  __shared__ double part[N_WARPS];
  __shared__ unsigned long long hash_part[N_WARPS];
  __shared__ int is_last;
  const int tid = int(threadIdx.x), lane = lane_index(), j = int(blockIdx.x), run = run_index();
  const long long plane = (long long)k * d;
  control += run * CONTROL_WORDS;
  scales += problem_index() * SCALE_WORDS;
  C += run * plane;
#if SPARSE
  half_centers += (long long)run * n_padded * d;
#else
  offsets += (long long)problem_index() * n_steps * (4 * QUAD);
  half_centers += (long long)run * n_padded * n_steps * (WARP * QUAD / 8);
#endif
  half_squares += run * n_padded;
  measures += run * N_MEASURES * k;
  facts += run * FACT_WORDS;
  table += (long long)run * n_slots;
#if !GIVEN
  unit += (long long)problem_index() * d;
  tolerance += run;
  sums += run * n_limbs * plane;
  weight_sums += run * n_limbs * k;
  previous += run * plane;
  drift_so_far += run * (k + n_groups);
  history += run * n_history * HISTORY_WORDS;
  if (control[STOP]) return;
  if (control[N_OPEN]) {  // the last block sets STOP, which must not change while others read it
    __syncthreads();      // every thread has read it
    if (tid == 0) {
      __threadfence();
      if (atomicAdd(control + TICKETS, 1) == k - 1) {
        __threadfence();
        control[TICKETS] = 0;
        control[STOP] = ROWS_LEFT_OPEN;
      }
    }
    return;
  }
#endif

  // ---- this block's center
#if !GIVEN
  const bool two = n_limbs == 2;
  const double weight = cluster_weight(weight_sums, j, k, two, weight_unit, scales[WEIGHT_SCALE]);
#endif
  const double half_scale = scales[HALF_SCALE];
  double shift = 0.0, square = 0.0, rest = 0.0, most = 0.0;
  unsigned long long hash = 0;
  for (int f0 = 0; f0 < d; f0 += CHUNK) {
    for (int f = f0 + tid; f < min(d, f0 + CHUNK); f += THREADS) {
      const long long at = (long long)j * d + f;
      CENTER center = C[at];
#if !GIVEN
      const double before = widen(center);
      previous[at] = center;
      narrow(__dmul_rn(scaled_mean(sums, at, plane, two, limb_unit, weight), unit[f]), &center);
      C[at] = center;
      square_differences[f - f0] = square_difference(widen(center), before);
#endif
      const double value = widen(center);
#if SPARSE
      const double z = __dmul_rn(value, half_scale);
      half_centers[(long long)f * n_padded + j] = center;
#else
      const double z = fma(value, half_scale, double(offsets[f]));
      const unsigned short half = float_to_half(double_to_float(z));
      const int within = f % GROUP;
      half_centers[fragment_place(j, n_steps, f / GROUP * RUN_STEPS + within % RUN / QUAD, within / RUN, f % QUAD)] = half;
      const double left = z - double(half_to_float(half));
      rest = fma(left, left, rest);
#endif
      square = fma(z, z, square);
      most = fmax(most, value == rint(value) ? fabs(value) : INFINITE_64);
      hash += hash_of(value, f);
    }
#if !GIVEN
    __syncthreads();  // the chunk is complete
    if (tid < WARP)
      for (int f = f0 + lane; f < min(d, f0 + CHUNK); f += WARP) shift = __dadd_rn(shift, square_differences[f - f0]);
    __syncthreads();  // the chunk has been read
#endif
  }
  if (tid < WARP) shift = warp_order_sum(shift);
  square = of_block(square, part, Sum());
#if !SPARSE
  rest = of_block(rest, part, Sum());
#endif
  most = of_block(most, part, Larger());
  hash = of_block(hash, hash_part, Sum());
  if (tid == 0) {
    // Beyond the range of halves or of float64 a rest is NaN: it becomes infinite, and the center stays a candidate.
    const double norm = square < INFINITE_64 ? sqrt(square) : INFINITE_64;
    const double above_rest = rest < INFINITE_64 ? fma(norm, 0x1p-50, sqrt(rest)) : INFINITE_64;
#if SPARSE
    half_squares[j] = fmax(__dmul_rn(-0.5, square), -0x1.fffffffffffffp1023);
#else
    half_squares[j] = double_to_float(fmax(__dmul_rn(-0.5, square), -0x1.fffffep127));
#endif
#if !GIVEN
    measures[WEIGHT * k + j] = weight;
    measures[SHIFT_SQUARE * k + j] = shift;
#endif
    measures[NORM * k + j] = norm + above_rest;
    measures[REST * k + j] = above_rest;
    measures[LARGEST * k + j] = most;
    if (was_entered(table, n_slots, hash, control[EPOCH])) atomicExch(control + HAS_EQUAL, 1);
    __threadfence();
    is_last = atomicAdd(control + TICKETS, 1) == k - 1;
  }
  __syncthreads();  // is_last is known
  if (!is_last) return;
  __threadfence();

  // ---- the last block, for all centers
  write_facts(measures, k, d, scales[LARGEST_WHOLE], accumulation, part, facts);
  if (tid == 0) {
    control[TICKETS] = 0;
    control[EPOCH] += 1;
  }
#if !GIVEN
  const Shifts shifts = shifts_of(measures, k, part, reinterpret_cast<long long*>(hash_part));
  add_drift(measures, k, n_groups, shifts, half_scale, reinterpret_cast<float*>(square_differences), drift_so_far);
  if (tid == 0) record_and_stop(shifts, tolerance[0], history, control);
#endif
}
