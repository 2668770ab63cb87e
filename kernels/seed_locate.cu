/* seed_locate.cu -- k-means++: the row that a draw hits.
 *
 *   candidates[t] = the first row at which the running sum of weights[i] * closest[i] reaches u_t times its total,
 *                   or -1 where the errors of the sums leave that open
 *
 * potential, progress IN: seeding.cuh | closest (n_runs,n) f64 IN | weights (n) f64 IN or null (1) | draws, radius IN: below |
 * candidates (n_runs,n_trials) i32 OUT                                            all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: weights hold one problem after another, all else one run.
 * A block looks for one draw of one run: each thread adds a stretch of block sums, a scan puts the stretches together,
 * and then a scan runs over the 256 rows of the block that was hit.
 * An index is certain where its own sum surely reaches the value and the sum before it surely does not; each computed
 * sum P is within relative * P + floor of the true one (zero_floor where P is 0).  With `exact`, sums are exact, and so
 * is the comparison, by the error-free product of u and the total.
 * Launch grid (n_trials, n_runs, problems), block 256, shared 200 bytes (static).
 * Traffic: 16 n_blocks a draw, mostly cached.
 * Accuracy: a sum rounds 48 + 2 ceil(n_blocks/256) times at most, with what the comparison rounds.
 * Tests: python -m pytest tests/kernels/test_seed_locate.py
 */
#include "seeding.cuh"

// Sums over threads 0 .. t - 1 of a block, and over all of them.
static __device__ __forceinline__ double sum_before(double value, double* __restrict__ part, double* total) {
  const int lane = lane_index(), warp = int(threadIdx.x) / WARP;
  double inclusive = value;
#pragma unroll
  for (int step = 1; step < WARP; step *= 2) {
    const double other = __shfl_up_sync(EVERY_LANE, inclusive, step);
    if (lane >= step) inclusive += other;
  }
  if (lane == WARP - 1) part[warp] = inclusive;
  __syncthreads();
  double before = 0.0, all = 0.0;
  for (int w = 0; w < WARPS; ++w) {
    if (w == warp) before = all;
    all += part[w];
  }
  *total = all;
  const double left = __shfl_up_sync(EVERY_LANE, inclusive, 1);
  return lane > 0 ? before + left : before;
}

struct Target {
  double value, error;                 // exact: an unevaluated sum; else a value and its error
  double relative, floor, zero_floor;
  bool exact;

  __device__ __forceinline__ double error_of(double sum) const {
    return fma(relative, sum, sum > 0.0 ? floor : zero_floor);
  }
  __device__ __forceinline__ bool exceeds(double sum) const { return sum > value || (sum == value && error <= 0.0); }
  __device__ __forceinline__ bool may_reach(double sum) const {
    return exact ? exceeds(sum) : sum + error_of(sum) >= value - error;
  }
  __device__ __forceinline__ bool surely_reaches(double sum) const {
    return exact ? exceeds(sum) : sum - error_of(sum) >= value + error;
  }
};

struct Draws {
  In<double> draws;  // (n_runs, n_steps, n_trials) in [0, 1)
  int n_steps;
  int n_given;       // seeds that step 0 follows
};

// The error of a running sum.
struct SumRadius {
  double relative;
  double floor;
  double zero_floor;
  int exact;
};

extern "C" __global__ void __launch_bounds__(THREADS)
seed_locate(const __grid_constant__ BlockSums potential, const double* __restrict__ closest,
            const double* __restrict__ weights, long long n, const __grid_constant__ Draws draws,
            const __grid_constant__ Progress progress, const __grid_constant__ SumRadius radius,
            int* __restrict__ candidates) {
  __shared__ double block_part[WARPS], row_part[WARPS], before_block;
  __shared__ int first_block, first_row, sure;
  const int tid = int(threadIdx.x);
  const long long run = run_index();
  if (weights) weights += problem_index() * n;
  const int n_trials = int(gridDim.x);
  const int n_blocks = potential.n_blocks;
  const In<int> own = {progress.state + run * STATE};
  if (!draws_on(own.at, progress.n_clusters)) return;
  const double u = draws.draws[(run * draws.n_steps + own[N_SEEDS] - draws.n_given) * n_trials + blockIdx.x];
  if (tid == 0) {
    first_block = n_blocks;
    first_row = THREADS;
    sure = 0;
  }

  const In<double> of_run = potential.sums + run * n_blocks;
  const int stretch = (n_blocks + THREADS - 1) / THREADS;
  const int start = min(n_blocks, tid * stretch), stop = min(n_blocks, start + stretch);
  double sum = 0.0, total;
  for (int b = start; b < stop; ++b) sum += of_run[b];
  double running = sum_before(sum, block_part, &total), before = running;
  Target target = {__dmul_rn(u, total), 0.0, radius.relative, radius.floor, radius.zero_floor, radius.exact != 0};
  target.error = target.exact ? fma(u, total, -target.value)
                       : __dadd_rn(__dmul_rn(u, target.error_of(total)), __dmul_rn(target.value, 0x1p-50));
  int found = stop;
  for (int b = start; b < stop; ++b) {
    before = running;
    running += of_run[b];
    if (target.may_reach(running)) {
      found = b;
      break;
    }
  }
  if (found < stop) atomicMin(&first_block, found);
  __syncthreads();
  if (found < stop && found == first_block) {
    before_block = before;
    sure = target.surely_reaches(running);
  }
  __syncthreads();  // the block is found
  int* __restrict__ hit = candidates + run * n_trials + blockIdx.x;
  if (!sure) {
    if (tid == 0) *hit = -1;
    return;
  }

  const long long i = (long long)first_block * THREADS + tid;
  double term = i < n ? closest[run * n + i] : 0.0, all;
  if (weights && i < n) term = __dmul_rn(weights[i], term);
  const double reached = before_block + (sum_before(term, row_part, &all) + term);
  const bool may = i < n && target.may_reach(reached);
  if (may) atomicMin(&first_row, tid);
  __syncthreads();
  if (may && tid == first_row) *hit = target.surely_reaches(reached) ? int(i) : -1;
  if (tid == 0 && first_row == THREADS) *hit = -1;
}
