/* screen.cuh -- what the screens share: rows as fragments of halves, what two scores certify, and where rows are listed.
 *
 * Rows and centers are scaled and shifted alike, z = x scale + offset (scale a power of two; offset_f about minus the mean of
 * the column, in scaled units), so that |z_f| < 2^15, and rounded to halves h.  Distances do not change but by scale^2.
 *
 *   v_ij = h_i.h_j - |z_j|^2 / 2          tensor cores, the last term in the accumulator: larger is nearer
 *   |v_ij - (z_i.z_j - |z_j|^2 / 2)| <= radius_i = PER_REST rest_i + PER_NORM norm_i + CONSTANT
 *
 * with norm_i >= |z_i| + |z_i - h_i| and rest_i >= |z_i - h_i| (row_facts.cu): certificates/halves.py: half_score_radius.
 *
 * Constants: ROW; VECTOR: rows start at multiples of 16 bytes and have a multiple of RUN columns.
 */
#pragma once
#include "limits.cuh"
#include "moves.cuh"

// What tensor cores multiply: rows, which become halves in registers, and the halves of the centers.
struct Operands {
  In<ROW> X;                        // (n,d)
  In<float> norms;                  // (n) norm_i
  In<float> rests;                  // (n) rest_i
  In<double> scales;                // (SCALE_WORDS), of which HALF_SCALE
  In<float> offsets;                // (16 n_steps) zeros beyond d
  In<unsigned short> half_centers;  // (ceil(k/8), n_steps, 32, QUAD): fragment_place
  int d;
  int n_steps;
};

// What scores start from, and what their radius is made of.
struct Centers {
  In<float> half_squares;  // (k, rounded up to whole tiles) -|z_j|^2 / 2, or -infinity for centers that are dead or beyond k
  In<float> facts;         // (FACT_WORDS) of all centers
  int k;
};

// ---- fragments ----------------------------------------------------------------------------------------------------

/* A lane takes RUN neighbouring columns of a row at a time, 16 bytes of most types; the four lanes of a row take a GROUP.
 * That is work for RUN_STEPS products of 16 columns: a step takes QUAD columns of each lane's run. */
typedef ROW Row;
#define QUAD 4
template <typename T>
struct RunOf {
  static const int length = sizeof(T) >= 4 ? QUAD : 16 / sizeof(T);
};
#define RUN (RunOf<ROW>::length)
#define RUN_STEPS (RUN / QUAD)
#define GROUP (4 * RUN)

// The column of element e of lane 4 g + t in a step.
static __device__ __forceinline__ int fragment_column(int step, int t, int e) {
  return step / RUN_STEPS * GROUP + t * RUN + step % RUN_STEPS * QUAD + e;
}

/* Where the halves of the centers lie: half_centers (ceil(k/8), n_steps, 32, QUAD) u16, for each tile of 8 centers and each
 * step the four halves of each lane, 4 g + t for center g of the tile.  Columns and centers beyond the last are zeros. */
static __device__ __forceinline__ long long fragment_place(int center, int n_steps, int step, int t, int e) {
  return (((long long)(center / 8) * n_steps + step) * WARP + center % 8 * 4 + t) * QUAD + e;
}

// RUN columns of a row as they are stored; zeros beyond its end.
struct __align__(16) Strip {
  ROW element[RUN];
};
static __device__ __forceinline__ Strip load_strip(In<ROW> row, int f, int d) {
  Strip strip;
#if VECTOR
  uint4* words = reinterpret_cast<uint4*>(&strip);
#pragma unroll
  for (int w = 0; w < int(sizeof(Strip) / 16); ++w)
    words[w] = f < d ? load_once(reinterpret_cast<const uint4*>(row.at + f) + w) : make_uint4(0, 0, 0, 0);
#else
#pragma unroll
  for (int e = 0; e < RUN; ++e) strip.element[e] = f + e < d ? row[f + e] : Row{};
#endif
  return strip;
}

// z of an element, in float32: one rounding (float64 rows: two).  What row_facts.cu measures is what the screens use.
static __device__ __forceinline__ float scaled(unsigned char value, double, float offset) {
  // A byte in the last bits of 2^23 is a float without a conversion; whole offsets leave this exact.
  return __fadd_rn(__uint_as_float(0x4b000000u | value) - 8388608.0f, offset);
}
static __device__ __forceinline__ float scaled(float value, double scale, float offset) {
  return __fmaf_rn(value, float(scale), offset);
}
static __device__ __forceinline__ float scaled(Half value, double scale, float offset) {
  return scaled(half_to_float(value.bits), scale, offset);
}
static __device__ __forceinline__ float scaled(BFloat16 value, double scale, float offset) {
  return scaled(__uint_as_float(unsigned(value.bits) << 16), scale, offset);
}
static __device__ __forceinline__ float scaled(double value, double scale, float offset) {
  return double_to_float(fma(value, scale, double(offset)));
}

// The two registers of a lane for one step: z of QUAD neighbouring elements, rounded to halves.
template <typename T>
static __device__ __forceinline__ void quad_to_halves(const T* element, double scale, const float4& offset,
                                                      unsigned (&halves)[2]) {
  halves[0] = float_to_half2(scaled(element[0], scale, offset.x), scaled(element[1], scale, offset.y));
  halves[1] = float_to_half2(scaled(element[2], scale, offset.z), scaled(element[3], scale, offset.w));
}
/* Bytes need no conversion: 0x64 and a byte are the half 1024 + byte.  What is subtracted is the same for all rows; offsets are
 * whole and at most 255 in magnitude, so all of it is exact. */
static __device__ __forceinline__ void quad_to_halves(const unsigned char* element, double, const float4& offset,
                                                      unsigned (&halves)[2]) {
#if VECTOR
  const unsigned word = *reinterpret_cast<const unsigned*>(element);
  const unsigned low = __byte_perm(word, 0x64646464u, 0x4140), high = __byte_perm(word, 0x64646464u, 0x4342);
#else
  const unsigned low = 0x64006400u | element[0] | unsigned(element[1]) << 16;
  const unsigned high = 0x64006400u | element[2] | unsigned(element[3]) << 16;
#endif
  halves[0] = subtract_half2(low, float_to_half2(1024.0f - offset.x, 1024.0f - offset.y));
  halves[1] = subtract_half2(high, float_to_half2(1024.0f - offset.z, 1024.0f - offset.w));
}
static __device__ __forceinline__ void to_halves(const Strip& strip, int step, double scale, const float4& offset,
                                                 unsigned (&halves)[2]) {
  quad_to_halves(strip.element + step * QUAD, scale, offset, halves);
}

// ---- the two best scores of a row -----------------------------------------------------------------------------------

static __device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
static __device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }
static __device__ __forceinline__ float smaller(float a, float b) { return fminf(a, b); }
static __device__ __forceinline__ double smaller(double a, double b) { return fmin(a, b); }

template <typename T>
struct BestOf {
  T first, second;  // the largest values of v, of two different centers
  int index;        // of the first; of equal ones the lowest
};
typedef BestOf<float> Best;
static __device__ __forceinline__ Best no_score() { return {-INFINITE, -INFINITE, 0x7fffffff}; }

template <typename T>
static __device__ __forceinline__ void consider(BestOf<T>& best, T value, int center) {  // centers come in rising order
  if (value > best.first) {
    best.second = best.first;
    best.first = value;
    best.index = center;
  } else {
    best.second = larger(best.second, value);
  }
}

// The best of two sets of centers that have none in common.
template <typename T>
static __device__ __forceinline__ BestOf<T> better(const BestOf<T>& a, const BestOf<T>& b) {
  const bool a_wins = a.first > b.first || (a.first == b.first && a.index < b.index);
  const T second = larger(smaller(a.first, b.first), larger(a.second, b.second));
  return {a_wins ? a.first : b.first, second, a_wins ? a.index : b.index};
}
template <typename T>
static __device__ __forceinline__ BestOf<T> best_of_lanes(BestOf<T> best, int lanes) {  // of groups of so many neighbours
#pragma unroll
  for (int half = lanes / 2; half > 0; half /= 2) {
    const BestOf<T> other = {__shfl_xor_sync(EVERY_LANE, best.first, half), __shfl_xor_sync(EVERY_LANE, best.second, half),
                             __shfl_xor_sync(EVERY_LANE, best.index, half)};
    best = better(best, other);
  }
  return best;
}

// ---- certificates -----------------------------------------------------------------------------------------------------

static __device__ __forceinline__ float score_radius(In<float> facts, float norm, float rest) {
  return __fmaf_rn(facts[PER_REST], rest, __fmaf_rn(facts[PER_NORM], norm, facts[CONSTANT]));
}

// Whether the first center is the nearest of all; what is not a number certifies nothing.
template <typename T>
static __device__ __forceinline__ bool is_certain(const BestOf<T>& best, T radius) {
  return best.first - best.second > T(2) * radius;
}

/* The verdict of a screen on a row: the label is certain; or, with `exact` 0, the row takes the best screened label without being
 * certain, provided the scores are not NaN; else the row is undecided. */
struct Verdict {
  bool certain, trusted;
};
template <typename T>
static __device__ __forceinline__ Verdict verdict_of(const BestOf<T>& best, T radius, int exact) {
  const bool certain = is_certain(best, radius);
  return {certain, !certain && !exact && radius < T(INFINITE)};
}

/* What the drift of the centers must reach before the label of a certified row may change: a lower bound of the gap between
 * its distances to the nearest center and to any other, on top of the drift so far.  certificates/drift.py: drift_limit. */
static __device__ __forceinline__ float drift_limit(const Best& best, float radius, float norm, float drift_so_far) {
  if (best.second == -INFINITE) return INFINITE;  // there is no other center
  const float square = __fmul_rn(norm, norm);
  const float slack = __fmaf_rn(2.0f, radius, __fmul_rn(0x1p-20f, square + fabsf(best.first) + fabsf(best.second)));
  const float own = __fmul_rn(sqrtf(fmaxf(__fmaf_rn(-2.0f, best.first, square) + slack, 0.0f)), 1.0f + 0x1p-20f);
  const float other = __fmul_rn(sqrtf(fmaxf(__fmaf_rn(-2.0f, best.second, square) - slack, 0.0f)), 1.0f - 0x1p-20f);
  return __fmaf_rn(-0x1p-20f, own + drift_so_far, (other - own) + drift_so_far);
}

/* The same kept apart, so that every group of centers has a limit and a drift of its own: upper bounds of the distance to the
 * own center less its drift so far, lower bounds of the distances to a group's centers plus the largest drifts of that group
 * so far.  The label stays while  upper + own_so_far < lower - group_so_far  for every group, each side rounded once.
 * most: no score of the group is larger.  certificates/drift.py: upper_limit, lower_limit. */
static __device__ __forceinline__ float upper_limit(float best, float radius, float norm, float own_so_far) {
  const float square = __fmul_rn(norm, norm);
  const float slack = __fmaf_rn(2.0f, radius, __fmul_rn(0x1p-20f, square + fabsf(best)));
  const float own = __fmul_rn(sqrtf(fmaxf(__fmaf_rn(-2.0f, best, square) + slack, 0.0f)), 1.0f + 0x1p-20f);
  return __fmaf_rn(0x1p-20f, own + own_so_far, own - own_so_far);
}
static __device__ __forceinline__ float lower_limit(float most, float radius, float norm, float group_so_far) {
  if (most == -INFINITE) return INFINITE;  // the group has no other center
  const float square = __fmul_rn(norm, norm);
  const float slack = __fmaf_rn(2.0f, radius, __fmul_rn(0x1p-20f, square + fabsf(most)));
  const float other = __fmul_rn(sqrtf(fmaxf(__fmaf_rn(-2.0f, most, square) - slack, 0.0f)), 1.0f - 0x1p-20f);
  return __fmul_rn(other + group_so_far, 1.0f - 0x1p-20f);
}

// ---- rows that are labelled, and rows that are not looked at --------------------------------------------------------

/* Label the row of every lane by a verdict, and count the rows that are trusted.  The whole warp calls. */
static __device__ __forceinline__ void relabel_by(const Verdict& verdict, int row, int label, const Moves& moves) {
  relabel(verdict.certain || verdict.trusted, row, label, moves);
  const unsigned trusting = __ballot_sync(EVERY_LANE, verdict.trusted);
  if (lane_index() == 0 && trusting) atomicAdd(moves.control + N_UNCERTAIN, __popc(trusting));
}

// Rows that the screen of many centers did not certify, control[N_UNDECIDED] of them.
struct Undecided {
  int* rows;    // (n)
  int* counts;  // (n_slots) candidates of the first of them
  int n_slots;
};

/* Whether the row of this lane, if `inside`, must be looked at: the drift of the centers does not leave it out.  Counts the
 * others in control[N_SKIPPED].  The whole warp calls. */
static __device__ __forceinline__ bool is_open(bool inside, int row, const int* __restrict__ labels,
                                               const float* __restrict__ limits, In<float> drift_so_far, int* control) {
  bool open = inside;
  if (open) {
    const int label = labels[row];
    open = !(label >= 0 && drift_so_far[label] < limits[row]);
  }
  const int n_skipped = __popc(__ballot_sync(EVERY_LANE, inside && !open));
  if (lane_index() == 0 && n_skipped) atomicAdd(control + N_SKIPPED, n_skipped);
  return open;
}

// List the rows of the lanes with `open` in `listed` (WARP), shared memory of this warp.  Returns their number.
static __device__ __forceinline__ int list_of_warp(bool open, int row, int* listed) {
  const unsigned lanes = __ballot_sync(EVERY_LANE, open);
  if (open) listed[__popc(lanes & ((1u << lane_index()) - 1))] = row;
  __syncwarp();
  return __popc(lanes);
}

// The same of the threads of a block, in shared memory: listed (WARP * WARPS), counts (WARPS).  The whole block calls.
template <int WARPS>
static __device__ __forceinline__ int list_of_block(bool open, int row, int* listed, int* counts) {
  const unsigned lanes = __ballot_sync(EVERY_LANE, open);
  const int warp = int(threadIdx.x) / WARP;
  if (lane_index() == 0) counts[warp] = __popc(lanes);
  __syncthreads();  // counts are known
  int before = 0, count = 0;
#pragma unroll
  for (int w = 0; w < WARPS; ++w) {
    if (w == warp) before = count;
    count += counts[w];
  }
  if (open) listed[before + __popc(lanes & ((1u << lane_index()) - 1))] = row;
  __syncthreads();  // the list is complete
  return count;
}
