/* seed_choose.cu -- k-means++: the candidate that the potential loses most by becomes the next seed.
 *
 *   gain_t   = sum_b sums[0,t,b] - sum_b sums[1,t,b]                        (see seed_gain.cu)
 *   radius_t = per_far * sum_b sums[0,t,b] + per_near * sum_b sums[1,t,b] + floor;  zero_floor where the first is 0
 *
 * The choice is certain where only one candidate contends (gain_t + radius_t >= the largest gain - radius), or all
 * that do are equal rows, or none has an error: then the first of them in the order of the draws.  Where it is not, or
 * a draw has not found its row, state is set, and the run waits for the host: every later launch returns at once.
 *
 * rows IN: rows.cuh | trials, gains IN, progress INOUT: seeding.cuh | radius IN: below | seeds (n_runs,n_clusters) i32 INOUT
 *                                                                                 all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X holds one problem after another, all else one run.
 * A block works on a run, a warp on a sum.
 * Launch grid (1, n_runs, problems), block 1024, shared 300 bytes (static).   Traffic: 16 n_trials n_blocks a run.
 * Accuracy: a sum rounds ceil(n_blocks/32) + 5 times at most.
 * Tests: python -m pytest tests/kernels/test_seed_choose.py
 */
#include "seeding.cuh"
#include "rows.cuh"

#define MOST_TRIALS 16                 // cuda/tuning.py: MOST_TRIALS
#define CHOOSERS (2 * MOST_TRIALS * WARP)

// The error of a gain.
struct GainRadius {
  double per_far;
  double per_near;
  double floor;
  double zero_floor;
};

extern "C" __global__ void __launch_bounds__(CHOOSERS)
seed_choose(const __grid_constant__ Rows rows, const __grid_constant__ Trials trials, const __grid_constant__ BlockSums gains,
            const __grid_constant__ GainRadius radii, const __grid_constant__ Progress progress, int* __restrict__ seeds) {
  __shared__ double total[2 * MOST_TRIALS];
  __shared__ unsigned contenders;
  __shared__ int first, certain;
  const int tid = int(threadIdx.x), lane = lane_index(), warp = tid / WARP;
  const long long run = run_index();
  const int d = rows.d, n_trials = trials.n_trials, n_blocks = gains.n_blocks, n_clusters = progress.n_clusters;
  const In<int> own = trials.candidates + run * n_trials;
  int* const state = progress.state + run * STATE;
  if (!draws_on(state, n_clusters)) return;
  const In<ROW> X = rows.X + problem_index() * rows.n * d;
  const bool located = all_located(own, n_trials);
  if (located && warp < 2 * n_trials) {
    const In<double> of_warp = gains.sums + (run * 2 * n_trials + warp) * n_blocks;
    double sum = 0.0;
    for (int b = lane; b < n_blocks; b += WARP) sum += of_warp[b];
    sum = warp_order_sum(sum);
    if (lane == 0) total[warp] = sum;
  }
  __syncthreads();  // the sums are complete, and everyone has read the state
  if (!located) {
    if (tid == 0) state[OPEN] = OPEN_DRAW;
    return;
  }
  if (warp == 0) {  // a lane for each candidate
    const bool taken = lane < n_trials;
    const double far = taken ? total[lane] : 0.0, near = taken ? total[n_trials + lane] : 0.0;
    const double gain = far - near;
    const double radius = far > 0.0 ? fma(radii.per_far, far, fma(radii.per_near, near, radii.floor)) : radii.zero_floor;
    const bool finite = __all_sync(EVERY_LANE, gain + radius < 1e308) != 0;
    double best = taken ? gain - radius : -1e308;
#pragma unroll
    for (int half = WARP / 2; half > 0; half /= 2) best = fmax(best, __shfl_xor_sync(EVERY_LANE, best, half));
    const unsigned contends = __ballot_sync(EVERY_LANE, taken && gain + radius >= best);
    const bool errors = __any_sync(EVERY_LANE, (contends >> lane & 1) && radius > 0.0) != 0;
    if (lane == 0) {
      contenders = finite ? contends : 0;
      first = __ffs(int(contends)) - 1;
      certain = !errors;
    }
  }
  __syncthreads();  // the contenders are known
  bool apart = contenders == 0;
  if (!certain && contenders != 0) {
    const In<ROW> row = X + (long long)own[first] * d;
#pragma unroll 1
    for (int t = first + 1; t < n_trials; ++t) {
      if (!(contenders >> t & 1) || own[t] == own[first]) continue;
      const In<ROW> other = X + (long long)own[t] * d;
#pragma unroll 1
      for (int f = tid; f < d; f += CHOOSERS) apart |= widen(row[f]) != widen(other[f]);
    }
  }
  const bool open = __syncthreads_or(apart) != 0;
  if (tid != 0) return;
  if (open) {
    state[OPEN] = OPEN_CHOICE;
  } else {
    seeds[run * n_clusters + state[N_SEEDS]] = own[first];
    state[WINNER] = first;
    state[N_SEEDS] += 1;
  }
}
