/* seed_reach.cu -- k-means++: how near the candidates come to each seed.
 *
 *   reach[s] = min over the candidates t of |x_candidates[t] - x_seeds[s]|^2       for the seeds s chosen so far
 *
 * A row whose own seed s is much nearer than half the way to every candidate cannot be nearer to one of them
 * (certificates/seeds.py: separated).
 *
 * X (n,d) ROW IN | seeds (n_runs,n_clusters) i32 IN | candidates (n_runs,n_trials) i32 IN | state (n_runs,4) i32 IN |
 * reach (n_runs,n_clusters) f64 OUT                                               all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X holds one problem after another, all else one run.
 * A warp owns a seed, its lanes the columns; nothing is done where the host must settle a draw first.
 * Launch grid (ceil(n_clusters/8), n_runs, problems), block 256.   Traffic: n_trials d elements a seed, from cache.
 * Accuracy: gamma(d / 32 + 9) relative, besides 2^-1000 for squares that underflow.
 * Tests: python -m pytest tests/kernels/test_seed_gain.py
 */
#include "seeding.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
seed_reach(const ROW* __restrict__ X, const int* __restrict__ seeds, const int* __restrict__ candidates, int n_trials,
           const int* __restrict__ state, int n_clusters, long long n, int d, double* __restrict__ reach) {
  const long long run = run_index();
  const int* __restrict__ own = candidates + run * n_trials;
  if (!draws_on(state + run * STATE, n_clusters) || !all_located(own, n_trials)) return;
  const int s = int(blockIdx.x) * WARPS + int(threadIdx.x) / WARP;
  if (s >= state[run * STATE + N_SEEDS]) return;
  X += problem_index() * n * d;
  const ROW* __restrict__ seed = X + (long long)seeds[run * n_clusters + s] * d;
  double smallest = 0.0;
  for (int t = 0; t < n_trials; ++t) {
    const ROW* __restrict__ candidate = X + (long long)own[t] * d;
    double sum = 0.0;
    for (int f = lane_index(); f < d; f += WARP) {
      const double difference = widen(candidate[f]) - widen(seed[f]);
      sum = fma(difference, difference, sum);
    }
    sum = warp_order_sum(sum);
    smallest = t == 0 ? sum : fmin(smallest, sum);
  }
  if (lane_index() == 0) reach[run * n_clusters + s] = smallest;
}
