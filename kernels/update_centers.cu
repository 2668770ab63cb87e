/* update_centers.cu -- new centers from the exact sums, all that the next assignment asks of them, and whether to go on.
 *
 *   weights[j]      = value of the weight limbs                             (exact_sums.Grid.value)
 *   C[j, f]         = value of the sum limbs / weights[j], rounded to CENTER (exact_sums.cluster_means; NaN where 0 / 0)
 *   shift_square[j] = sum_f (C[j, f] - previous[j, f])^2 in float64, warp order   (exact_sums.center_shift_square)
 * with GIVEN the centers stay as they are, and only what follows is done:
 *   z_j = c_j HALF_SCALE + offset, rounded to halves; half_squares[j] = -|z_j|^2 / 2       (screen.cuh)
 *   norms[j] >= |z_j| + rests[j], rests[j] >= |z_j - h_j|;  largest[j] = max |c_jf| if all are whole numbers, else infinity
 * with SPARSE, for rows in CSR (sparse_nearest.cu), z_j = c_j HALF_SCALE is not rounded: columns[f, j] = C[j, f] instead of
 * half_centers, half_squares in float64, and offsets and n_steps are not looked at
 * and the last block to finish judges the whole:
 *   facts           what the radius of a score is made of                   (half_certificates.half_score_radius)
 *   drift_so_far[j] += shift_j + the largest shift of another center, scaled, rounded up     (certificates.gap_after_move)
 *                      with n_groups shift_j alone; drift_so_far[k + g] += the largest shift of a center of group g, those
 *                      with j % (2 n_groups) / 2 == g                               (half_certificates.lower_limit)
 *   history, control: the iteration's counts; whether labels or centers stayed, a cluster is empty, two centers may be equal
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
 * Traffic: 8 k d n_limbs read, k d centers read and written twice, 2 k d written; 5 numbers a center for the judgement.
 * Accuracy: centers and shifts by the same operations as NumPy's, one by one, for the same bits; the one fused
 * multiply-add among them is an error-free product's error, which NumPy finds by splitting.
 */
#include "screen.cuh"

#define THREADS 256
#define N_WARPS (THREADS / WARP)
#define CHUNK 1024
#define INFINITE_64 __longlong_as_double(0x7ff0000000000000LL)
#define NOT_A_NUMBER_64 __longlong_as_double(0x7fffffffffffffffLL)

#if SPARSE
typedef CENTER Copy;                   // how the screen reads centers,
typedef double HalfSquare;             // and what its scores start from
#else
typedef unsigned short Copy;
typedef float HalfSquare;
#endif

static_assert(CHUNK % WARP == 0, "a chunk must end where a lane's turn begins again");

// A hash of a column's value that tells columns apart; 0.0 and -0.0 are one.
static __device__ __forceinline__ unsigned long long hash_of(double value, int f) {
  unsigned long long bits = (unsigned long long)__double_as_longlong(value + 0.0) + 0x9e3779b97f4a7c15ull * unsigned(f + 1);
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9ull;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111ebull;
  return bits ^ bits >> 31;
}

/* Enters a hash of this epoch, and says whether the same one was there.  Words of other epochs are free room. */
static __device__ bool was_entered(unsigned long long* table, int n_slots, unsigned long long hash, int epoch) {
  const unsigned long long word = (hash & ~0xffffull) | unsigned(epoch & 0xffff);
  int slot = int(hash >> 20 & unsigned(n_slots - 1));
  while (true) {
    unsigned long long seen = atomicCAS(table + slot, 0ull, word);
    if (seen == 0) return false;
    while ((seen & 0xffffull) != (word & 0xffffull)) {
      const unsigned long long before = atomicCAS(table + slot, seen, word);
      if (before == seen) return false;
      seen = before;
    }
    if (seen == word) return true;
    slot = (slot + 1) & (n_slots - 1);
  }
}

enum Measure { WEIGHT, SHIFT_SQUARE, NORM, REST, LARGEST, N_MEASURES };

// The sum or the largest of the block's values, for all of its threads.
template <typename T, typename Combine>
static __device__ __forceinline__ T of_block(T value, T* part, Combine combine) {
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) value = combine(value, __shfl_xor_sync(EVERY_LANE, value, half));
  __syncthreads();  // what was there has been read
  if (lane_index() == 0) part[threadIdx.x / WARP] = value;
  __syncthreads();  // every warp's is there
  T all = part[0];
#pragma unroll
  for (int warp = 1; warp < N_WARPS; ++warp) all = combine(all, part[warp]);
  return all;
}

struct Larger {
  __device__ double operator()(double a, double b) const { return fmax(a, b); }
};
struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const { return a + b; }
};

// A float32 that stays above a float64 through the arithmetic that is done with it.
static __device__ __forceinline__ float above(double value) { return double_to_float(__dmul_rn(value, 1.0 + 0x1p-10)); }

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
  if (control[N_OPEN]) {  // the last block to see it says so: STOP must not change while others read it
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
  const double weight = __dmul_rn(scaled_value(weight_sums[j], two ? weight_sums[k + j] : 0, two, weight_unit),
                                  __ddiv_rn(1.0, scales[WEIGHT_SCALE]));
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
      const double high = double(sums[at]), low = low_part(sums[at], two ? sums[plane + at] : 0, two, limb_unit);
      // A quotient and its correction: high - quotient * weight is exact in the two terms of the fused product.
      double quotient = __ddiv_rn(high, weight);
      const double product = __dmul_rn(quotient, weight), error = __fma_rn(quotient, weight, -product);
      quotient = __dadd_rn(quotient, __ddiv_rn(__dadd_rn(__dsub_rn(__dsub_rn(high, product), error), low), weight));
      narrow(__dmul_rn(quotient, unit[f]), &center);
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
    // Halves end at 2^16 and float64 ends, too: what is no number then is infinite, and a center so far away lives.
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

  // ---- the last block judges
  double norm = 0.0, largest = scales[LARGEST_WHOLE];
  rest = 0.0;
  for (int c = tid; c < k; c += THREADS) {
    norm = fmax(norm, __ldcg(measures + NORM * k + c));
    rest = fmax(rest, __ldcg(measures + REST * k + c));
    largest = fmax(largest, __ldcg(measures + LARGEST * k + c));
  }
  norm = of_block(norm, part, Larger());
  rest = of_block(rest, part, Larger());
  largest = of_block(largest, part, Larger());
  if (tid == 0) {
    const bool sound = norm < 0x1p60;  // beyond it nothing is certified
    const double both = __dadd_rn(__dmul_rn(accumulation, norm), rest);
    facts[PER_REST] = sound ? above(norm) : INFINITE;
    facts[PER_NORM] = sound ? above(both) : INFINITE;
#if SPARSE
    const double per_square = accumulation;  // half squares are not rounded to float32
#else
    const double per_square = accumulation + 0x1p-24;
#endif
    facts[CONSTANT] = sound ? above(fma(__dmul_rn(per_square, 0.5 * norm), norm, 0x1p-100)) : INFINITE;
    // certificates.exact_in_float64
    facts[WHOLE] = __dmul_rn(__dmul_rn(4.0 * largest, largest), double(d)) <= 0x1p53 ? 1.0f : 0.0f;
    control[TICKETS] = 0;
    control[EPOCH] += 1;
  }
#if !GIVEN
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
  const int bits = min(36, 62 - (32 - __clz(k)));  // exact_sums.Grid.for_largest(first, k)
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
  sum0 = of_block(sum0, reinterpret_cast<long long*>(hash_part), Sum());
  sum1 = of_block(sum1, reinterpret_cast<long long*>(hash_part), Sum());
  if (n_first > 1.0) second = first;
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
    float* const steps = reinterpret_cast<float*>(square_differences);
    steps[tid] = farthest;
    __syncthreads();  // every thread's is there
    if (tid < n_groups) {
      float most = 0.0f;
      for (int other = 2 * tid; other < THREADS; other += 2 * n_groups)
        most = fmaxf(most, fmaxf(steps[other], steps[other + 1]));
      drift_so_far[k + tid] = __fmul_rn(drift_so_far[k + tid] + most, 1.0f + 0x1p-22f);
    }
  }
  if (tid == 0) {
    const double sum = __dmul_rn(scaled_value(sum0, sum1, true, ldexp(1.0, -bits)), __ddiv_rn(1.0, to_limbs));
    const double total = n_empty == 0.0 ? sum : NOT_A_NUMBER_64;
    const int done = control[N_DONE];
    double* const record = history + (long long)done * HISTORY_WORDS;
    record[MOVED] = control[N_MOVED];
    record[SKIPPED] = control[N_SKIPPED];
    record[UNDECIDED] = control[N_UNDECIDED];
    record[UNCERTAIN] = control[N_UNCERTAIN];
    record[SHIFT] = total;
    record[EMPTY] = n_empty;
    int reason = GO_ON;
    if (done + 1 >= control[N_LIMIT]) reason = ITERATIONS_DONE;
    if (__ldcg(control + HAS_EQUAL)) reason = EQUAL_CENTERS;
    if (total <= tolerance[0]) reason = CENTERS_STAYED;
    if (control[N_MOVED] == 0) reason = LABELS_STAYED;
    if (n_empty > 0.0) reason = EMPTY_CLUSTER;
    control[N_DONE] = done + 1;
    control[N_SKIPPED] = control[N_UNDECIDED] = control[N_UNCERTAIN] = control[N_MOVED] = control[N_ACTIVE] = 0;
    control[STOP] = reason;
  }
#endif
}
