/* update_centers.cu -- new centers from the exact sums, all that the next assignment reads of them, and whether to go on.
 *
 *   weights[j], C[j, f] from the limbs of their sums                        (means.cuh)
 *   shift_square[j] = sum_f (C[j, f] - previous[j, f])^2 in float64, warp order    (exact/warp_order.py)
 * with GIVEN the centers stay as they are, and only what follows is done (control[STOP] is set where centers may be equal):
 *   z_j = c_j HALF_SCALE + offset, rounded to halves; half_squares[j] = -|z_j|^2 / 2       (screen.cuh)
 *   norms[j] >= |z_j| + rests[j], rests[j] >= |z_j - h_j|;  largest[j] = max |c_jf| if all are whole numbers, else infinity
 *   whether another center may be equal                                    (equal_centers.cuh)
 * with SPARSE, for rows in CSR (sparse_nearest.cu), z_j = c_j HALF_SCALE is not rounded: columns[f, j] = C[j, f] instead of
 * half_centers, half_squares in float64, and offsets and n_steps are not looked at
 * with FIXED, for nearest_of_few_bytes.cu, z_j is rounded to a whole number q_j of FIXED_UNIT instead (limbs.cuh), and
 * starts[j] = offset.q_j - |z_j|^2 / (2 FIXED_UNIT), rounded to a whole number
 * and the last block to finish, for all centers:
 *   facts            what the radius of a score is made of                 (score_facts.cuh)
 *   drift_so_far     how far centers have drifted                          (drift.cuh)
 *   history, control the record of the iteration, and whether to go on     (stopping.cuh)
 *
 * sums IN: sums.cuh | means IN: means.cuh | scales (SCALE_WORDS) f64 IN | centers: C INOUT, previous OUT, copies: offsets IN,
 * all else OUT: below | next: measures, facts OUT, drift_so_far INOUT: score_facts.cuh | table INOUT, of which only the hashes
 * of this EPOCH count: equal_centers.cuh | record: tolerance IN, history OUT at control[N_DONE], control INOUT: stopping.cuh
 *                                                                                                      all C-contiguous
 * Several runs (blockIdx.y) of several problems (blockIdx.z): unit, scales and offsets hold one problem after another, all else
 * one run after another.
 * A block owns a center, its threads the columns; warp 0 adds the shift in warp order, CHUNK columns at a time.
 * Launch grid (k, runs, problems), block 256, shared 8.6 KiB (static).
 * Traffic: 8 k d n_limbs read, k d centers read and written twice, 2 k d written; 5 numbers a center for the last block.
 * Accuracy: centers and shifts by the same operations as NumPy's, one by one, for the same bits; the one fused
 * multiply-add among them is an error-free product's error, which NumPy finds by splitting.
 * Tests: python -m pytest tests/kernels/test_update_centers.py tests/kernels/test_center_facts.py tests/kernels/test_center_drift.py tests/kernels/test_equal_centers.py tests/kernels/test_nearest_of_few_bytes.py
 */
#define THREADS 256
#define N_WARPS (THREADS / WARP)
#include "screen.cuh"
#if FIXED
#include "limbs.cuh"
#endif
#include "equal_centers.cuh"
#include "stopping.cuh"
#include "means.cuh"

#define CHUNK 1024
#if FIXED
#define MIN_BLOCKS 2                   // of at most 16 blocks a run; with three sm_100 spills
#else
#define MIN_BLOCKS 3
#endif

#if SPARSE
typedef CENTER Copy;                   // how the screen reads centers,
typedef double HalfSquare;             // and what its scores start from
#else
#if FIXED
typedef signed char Copy;
#else
typedef unsigned short Copy;
#endif
typedef float HalfSquare;
#endif

static_assert(CHUNK % WARP == 0, "a chunk must end where a lane's turn begins again");

// Of one run, or of several one after another, as all else but what several runs share.
struct NewCenters {
  CENTER* C;         // (k,d)
  CENTER* previous;  // (k,d) before this update
};

// What the next screen reads of them.
struct CenterCopies {
  In<float> offsets;         // (16 n_steps)
  Copy* half_centers;        // (n_padded/8, n_steps, 32, QUAD): screen.cuh; SPARSE: (d,n_padded); FIXED: limbs.cuh.  Zeros beyond k and d before
  HalfSquare* half_squares;  // (n_padded), of which k are written
  long long* starts;         // FIXED: (n_padded), of which k are written
  int n_padded;
  int n_steps;
};

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
update_centers(const __grid_constant__ Sums sums_of_all, const __grid_constant__ Means means,
               const double* __restrict__ scales, const __grid_constant__ NewCenters centers,
               const __grid_constant__ CenterCopies copies, const __grid_constant__ NextFacts next,
               const __grid_constant__ HashTable table, const __grid_constant__ Record record) {
#if !GIVEN
  __shared__ double square_differences[CHUNK];
#endif
  __shared__ double part[N_WARPS];
  __shared__ unsigned long long hash_part[N_WARPS];
  __shared__ int is_last;
  const int tid = int(threadIdx.x), lane = lane_index(), j = int(blockIdx.x), run = run_index();
  const int k = sums_of_all.k, d = sums_of_all.d, n_padded = copies.n_padded;
  const long long plane = (long long)k * d;
  int* const control = record.control + run * CONTROL_WORDS;
  scales += problem_index() * SCALE_WORDS;
  CENTER* const C = centers.C + run * plane;
#if SPARSE
  Copy* const __restrict__ half_centers = copies.half_centers + (long long)run * n_padded * d;
#else
  const int n_steps = copies.n_steps;
  const In<float> offsets = copies.offsets + (long long)problem_index() * n_steps * (4 * QUAD);
#if FIXED
  Copy* const __restrict__ half_centers = copies.half_centers + (long long)run * n_steps * (4 * QUAD) * (3 * LIMB_CENTERS);
#else
  Copy* const __restrict__ half_centers = copies.half_centers + (long long)run * n_padded * n_steps * (WARP * QUAD / 8);
#endif
#endif
  HalfSquare* const __restrict__ half_squares = copies.half_squares + run * n_padded;
  double* const measures = next.measures + run * N_MEASURES * k;
#if !GIVEN
  const int n_limbs = means.n_limbs;
  const In<double> unit = means.unit + (long long)problem_index() * d;
  const In<long long> sums = {sums_of_all.sums + run * n_limbs * plane};
  const In<long long> weight_sums = {sums_of_all.weights + run * n_limbs * k};
  CENTER* const __restrict__ previous = centers.previous + run * plane;
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
  const double weight = cluster_weight(weight_sums, j, k, two, means.weight_unit, scales[WEIGHT_SCALE]);
#endif
  const double half_scale = scales[HALF_SCALE];
  double shift = 0.0, square = 0.0, rest = 0.0, most = 0.0;
  unsigned long long hash = 0;
#if FIXED
  double offset_product = 0.0;
#endif
  for (int f0 = 0; f0 < d; f0 += CHUNK) {
    for (int f = f0 + tid; f < min(d, f0 + CHUNK); f += THREADS) {
      const long long at = (long long)j * d + f;
      CENTER center = C[at];
#if !GIVEN
      const double before = widen(center);
      previous[at] = center;
      narrow(__dmul_rn(scaled_mean(sums, at, plane, two, means.limb_unit, weight), unit[f]), &center);
      C[at] = center;
      square_differences[f - f0] = square_difference(widen(center), before);
#endif
      const double value = widen(center);
#if SPARSE
      const double z = __dmul_rn(value, half_scale);
      half_centers[(long long)f * n_padded + j] = center;
#else
      const double z = fma(value, half_scale, double(offsets[f]));
#if FIXED
      const double q = fmin(fmax(rint(z * (1 << FIXED_BITS)), -LARGEST_FIXED), LARGEST_FIXED);  // of NaN, too
      write_limbs(int(q), j, f, half_centers);
      offset_product = fma(double(offsets[f]), q, offset_product);
      const double left = z - q * FIXED_UNIT;
#else
      const unsigned short half = float_to_half(double_to_float(z));
      const int within = f % GROUP;
      half_centers[fragment_place(j, n_steps, f / GROUP * RUN_STEPS + within % RUN / QUAD, within / RUN, f % QUAD)] = half;
      const double left = z - double(half_to_float(half));
#endif
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
#if FIXED
  offset_product = of_block(offset_product, part, Sum());
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
#if FIXED
    const double whole_start = fma(-0.5 * (1 << FIXED_BITS), square, offset_product);
    copies.starts[run * n_padded + j] = (long long)rint(fmin(fmax(whole_start, -0x1p60), 0x1p60));
#endif
#if !GIVEN
    measures[WEIGHT * k + j] = weight;
    measures[SHIFT_SQUARE * k + j] = shift;
#endif
    measures[NORM * k + j] = norm + above_rest;
    measures[REST * k + j] = above_rest;
    measures[LARGEST * k + j] = most;
    unsigned long long* const words = table.words + (long long)run * table.n_slots;
    if (was_entered(words, table.n_slots, hash, control[EPOCH])) atomicExch(control + HAS_EQUAL, 1);
    __threadfence();
    is_last = atomicAdd(control + TICKETS, 1) == k - 1;
  }
  __syncthreads();  // is_last is known
  if (!is_last) return;
  __threadfence();

  // ---- the last block, for all centers
  write_facts(measures, k, d, scales[LARGEST_WHOLE], next.accumulation, part, next.facts + run * FACT_WORDS);
  if (tid == 0) {
    control[TICKETS] = 0;
    control[EPOCH] += 1;
#if GIVEN
    if (__ldcg(control + HAS_EQUAL)) control[STOP] = EQUAL_CENTERS;
#endif
  }
#if !GIVEN
  const Shifts shifts = shifts_of(measures, k, part, reinterpret_cast<long long*>(hash_part));
  add_drift(measures, k, next.n_groups, shifts, half_scale, reinterpret_cast<float*>(square_differences),
            next.drift_so_far + run * (k + next.n_groups));
  double* const history = record.history + run * record.n_history * HISTORY_WORDS;
  if (tid == 0) record_and_stop(shifts, record.tolerance[run], history, control);
#endif
}
