/* seed_reach.cu -- k-means++: how near the candidates come to each seed.
 *
 *   reach[s] = min over the candidates t of |x_candidates[t] - x_seeds[s]|^2       for the seeds s chosen so far
 *
 * A row whose own seed s is much nearer than half the way to every candidate cannot be nearer to one of them
 * (certificates/seeds.py: separated).
 *
 * rows IN: rows.cuh | seeds (n_runs,n_clusters) i32 IN | trials, progress IN: seeding.cuh | reach (n_runs,n_clusters) f64 OUT
 *                                                                                 all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X holds one problem after another, all else one run.
 * A warp owns a seed, its lanes the columns; nothing is done where the host must settle a draw first.
 * Launch grid (ceil(n_clusters/8), n_runs, problems), block 256.   Traffic: n_trials d elements a seed, from cache.
 * Accuracy: gamma(d / 32 + 9) relative, besides 2^-1000 for squares that underflow.
 * Tests: python -m pytest tests/kernels/test_seed_gain.py
 */
#include "seeding.cuh"
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
seed_reach(const __grid_constant__ Rows rows, const int* __restrict__ seeds, const __grid_constant__ Trials trials,
           const __grid_constant__ Progress progress, double* __restrict__ reach) {
  const long long run = run_index();
  const int d = rows.d, n_trials = trials.n_trials, n_clusters = progress.n_clusters;
  const In<int> own = trials.candidates + run * n_trials, state = {progress.state + run * STATE};
  if (!draws_on(state.at, n_clusters) || !all_located(own, n_trials)) return;
  const int s = int(blockIdx.x) * WARPS + int(threadIdx.x) / WARP;
  if (s >= state[N_SEEDS]) return;
  const In<ROW> X = rows.X + problem_index() * rows.n * d;
  const In<ROW> seed = X + (long long)seeds[run * n_clusters + s] * d;
  double smallest = __longlong_as_double(0x7ff0000000000000LL);
  for (int t = 0; t < n_trials; ++t) {
    const In<ROW> candidate = X + (long long)own[t] * d;
    double sum = 0.0;
#pragma unroll 2
    for (int f = lane_index(); f < d; f += WARP) {
      const double difference = widen(candidate[f]) - widen(seed[f]);
      sum = fma(difference, difference, sum);
    }
    sum = warp_order_sum(sum);
    smallest = fmin(smallest, sum);
  }
  if (lane_index() == 0) reach[run * n_clusters + s] = smallest;
}
