/* seeding.cuh -- what the kernels of k-means++ share: squared distances by groups of lanes, lists of rows, block
 * sums, and how far a run has come.
 *
 * Constants set in front of the source, where distances are taken: LANES, the lanes that share a row (a power of two);
 * VECTOR, whether rows start at multiples of four elements (d % 4 == 0); WIDE, whether they are taken in float64.
 */
#pragma once
#include "common.cuh"

#define THREADS 256                    // of a block, and the rows of a block of potentials: cuda/tuning.py: SEEDING_BLOCK
#define WARPS (THREADS / WARP)

// ---- how far a run has come: four int32 a run -----------------------------------------------------------------------

#define STATE 4
#define N_SEEDS 0                      // seeds chosen so far
#define OPEN 1                         // 0, or why the run waits for the host
#define WINNER 2                       // the candidate that became the last seed
#define OPEN_DRAW 1                    // which row a draw hits
#define OPEN_CHOICE 2                  // which candidate is best

struct Progress {
  int* state;      // (n_runs, STATE)
  int n_clusters;  // seeds wanted
};

static __device__ __forceinline__ bool draws_on(const int* __restrict__ state, int n_clusters) {
  return !state[OPEN] && state[N_SEEDS] < n_clusters;
}

// The rows that the draws of the next seed hit.
struct Trials {
  In<int> candidates;  // (n_runs, n_trials) -1: not found
  int n_trials;
};

// Whether every draw has found its row; the same answer in every thread.
static __device__ __forceinline__ bool all_located(In<int> candidates, int n_trials) {
  for (int t = 0; t < n_trials; ++t)
    if (candidates[t] < 0) return false;
  return true;
}

// ---- what is known of each row, and of each block of rows ------------------------------------------------------------

struct Closest {
  double* closest;  // (n_runs, n) squared distance to the closest seed; above every distance where there is none
  int* owners;      // (n_runs, n) which seed that is, in the order in which seeds are added
};

struct BlockSums {
  In<double> sums;  // (n_runs, n_blocks), or (n_runs, 2, n_trials, n_blocks)
  int n_blocks;
};

// What the potential would lose by each candidate: seed_gain.cu.
struct Gains {
  unsigned short* near;  // (n_runs, n) a bit for each candidate that may be nearer
  double* sums;          // (n_runs, 2, n_trials, n_blocks)
};

// A row may be nearer to a seed where  shrink * (computed distance) < (distance so far) + margin.
struct NearTest {
  double shrink;
  double margin;
};

// ---- sums of a block ------------------------------------------------------------------------------------------------

// The sum over a block of THREADS threads, in a fixed order; the result is thread 0's.  Rounds 13 times at most.
static __device__ __forceinline__ double block_sum(double value, double* __restrict__ part) {
  const double sum = warp_order_sum(value);
  if (lane_index() == 0) part[threadIdx.x / WARP] = sum;
  __syncthreads();
  double total = 0.0;
  if (threadIdx.x == 0)
    for (int w = 0; w < WARPS; ++w) total += part[w];
  return total;
}

// ---- rows and distances ---------------------------------------------------------------------------------------------

// Which of a warp's rows, one a lane, are wanted: their lanes, in order; returns how many.
static __device__ __forceinline__ int list_rows(bool wanted, int* __restrict__ listed) {
  const unsigned votes = __ballot_sync(EVERY_LANE, wanted);
  if (wanted) listed[__popc(votes & ((1u << lane_index()) - 1u))] = lane_index();
  __syncwarp();
  return __popc(votes);
}

#ifdef LANES
#define GROUPS (WARP / LANES)
#define SPAN (256 * LANES)             // columns whose squares one number adds up: 256 * 255^2 < 2^24, exact in float32
#define LEAST __longlong_as_double(0x0170000000000000LL)  // 2^-1000
static_assert(LANES <= 16 && (LANES & (LANES - 1)) == 0, "a power of two of lanes must share a row, 16 at most");

#if WIDE
typedef double Kept;                   // what distances are taken in
#else
typedef float Kept;
#endif

// An element, exactly, as the number that distances are taken in.
static __device__ __forceinline__ void take(unsigned char value, float* number) { *number = float(int(value)); }
static __device__ __forceinline__ void take(Half value, float* number) { *number = half_to_float(value.bits); }
static __device__ __forceinline__ void take(BFloat16 value, float* number) {
  *number = __uint_as_float(unsigned(value.bits) << 16);
}
static __device__ __forceinline__ void take(float value, float* number) { *number = value; }
static __device__ __forceinline__ void take(double value, float* number) { *number = double_to_float(value); }  // unused
template <typename T>
static __device__ __forceinline__ void take(T value, double* number) { *number = widen(value); }

// Four neighbouring elements, in one load or two.
struct __align__(4 * sizeof(ROW) < 16 ? 4 * sizeof(ROW) : 16) Neighbours {
  ROW element[4];
};

// Of which `left` are inside the row; zeros beyond its end.
template <typename Number>
static __device__ __forceinline__ void load_numbers(In<ROW> p, int left, Number (&number)[4]) {
#if VECTOR
  const Neighbours four = *reinterpret_cast<const Neighbours*>(p.at);
#pragma unroll
  for (int e = 0; e < 4; ++e) take(four.element[e], &number[e]);
#else
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    number[e] = Number(0);
    if (e < left) take(p[e], &number[e]);
  }
#endif
}

/* Squared distances of one row to COUNT seeds, the same in every lane of the group.  All lanes of a warp must call.
 * Rounds each term twice, each lane's sum 4 ceil(d / (4 LANES)) times (in float32: at most 256 times), and then in
 * float64 once for every SPAN columns and log2(LANES) times. */
template <typename Number, int COUNT>
static __device__ __forceinline__ void square_distances(In<ROW> x, const In<ROW> (&seed)[COUNT], int d,
                                                        double (&distance)[COUNT]) {
#pragma unroll
  for (int t = 0; t < COUNT; ++t) distance[t] = 0.0;
  for (int start = 0; start < d; start += SPAN) {
    const int stop = min(d, start + SPAN);
    Number sum[COUNT];
#pragma unroll
    for (int t = 0; t < COUNT; ++t) sum[t] = Number(0);
#pragma unroll 1                       // COUNT distances keep a thread busy
    for (int f = start + 4 * (lane_index() % LANES); f < stop; f += 4 * LANES) {
      Number value[4], other[4];
      load_numbers(x + f, d - f, value);
#pragma unroll
      for (int t = 0; t < COUNT; ++t) {
        load_numbers(seed[t] + f, d - f, other);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const Number difference = value[e] - other[e];
          sum[t] = fma(difference, difference, sum[t]);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < COUNT; ++t) distance[t] = __dadd_rn(distance[t], widen(sum[t]));
  }
#pragma unroll
  for (int half = LANES / 2; half > 0; half /= 2)
#pragma unroll
    for (int t = 0; t < COUNT; ++t)
      distance[t] = __dadd_rn(distance[t], __shfl_xor_sync(EVERY_LANE, distance[t], half));
}

/* The same in float64, or of whole numbers, where a row equal to a seed is at distance zero and no other row is:
 * squares may underflow, and are then lifted to 2^-1000. */
template <int COUNT>
static __device__ __forceinline__ void telling_distances(In<ROW> x, const In<ROW> (&seed)[COUNT], int d,
                                                         double (&distance)[COUNT]) {
  square_distances<Kept>(x, seed, d, distance);
#if WIDE
  bool vanishing = false;
#pragma unroll
  for (int t = 0; t < COUNT; ++t) vanishing |= distance[t] < LEAST;
  if (!__any_sync(EVERY_LANE, vanishing)) return;
  const int group = lane_index() / LANES;
#pragma unroll
  for (int t = 0; t < COUNT; ++t) {
    bool apart = false;
#pragma unroll 1
    for (int f = lane_index() % LANES; f < d; f += LANES) apart |= widen(x[f]) != widen(seed[t][f]);
    const unsigned votes = __ballot_sync(EVERY_LANE, apart);
    if (votes >> (group * LANES) & ((1u << LANES) - 1u)) distance[t] = fmax(distance[t], LEAST);
  }
#endif
}
#endif
