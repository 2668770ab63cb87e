/* skip_rows.cu -- which rows must be looked at: those whose label the drift of the centers may have changed.
 *
 *   uppers[i] + drift_so_far[label] < lowers[i, g] - drift_so_far[k + g] for every group g of centers:
 *                                     row i keeps its label                                         (control[N_SKIPPED])
 *   else, or without a label:         listed in active_rows                                          (control[N_ACTIVE])
 *
 * labels (n) i32 IN | limits: drift_so_far, uppers, lowers IN, active_rows OUT, nearly in order: limits.cuh | control INOUT
 *                                                                                                 all C-contiguous
 * A thread owns EACH rows, a block's threads neighbours at a time; a block takes its places in the list at once.  LANES
 * neighbours look at a row's groups together, four groups each, so that a warp reads 512 bytes in a row.
 * Launch grid ceil(n / (EACH THREADS)), block THREADS.
 * Traffic: 8n bytes read, 4 N_GROUPS more a row of which something is known, 4 written a listed row.
 * Accuracy: both sides are rounded once, which keeps their order; certificates/drift.py: upper_limit has the proof.
 *
 * Constants: N_GROUPS.
 * Tests: python -m pytest tests/kernels/test_skip_rows.py tests/cuda/test_group_limits.py
 */
#include "common.cuh"
#include "control.cuh"
#include "limits.cuh"

#define THREADS 256
#define EACH 8
#define WARPS (THREADS / WARP)
#define LANES (N_GROUPS / 4)      // that look at a row
#define ROWS_AT_ONCE (WARP / LANES)
#define EVERY_GROUP ((1u << LANES) - 1)

static_assert(N_GROUPS == 4 || N_GROUPS == 8 || N_GROUPS == 16, "a row's bounds are whole vectors of a few lanes");

extern "C" __global__ void __launch_bounds__(THREADS)
skip_rows(const int* __restrict__ labels, int n, int k, const __grid_constant__ GroupLimits limits, int* control) {
  if (control[STOP]) return;
  const In<float> drift_so_far = limits.drift_so_far;
  const In<float> uppers = {limits.uppers};
  const In<float> lowers = {limits.lowers};
  __shared__ int places[EACH * WARPS];  // of the first active row of each warp's part; first their counts
  const int lane = lane_index(), warp = int(threadIdx.x) / WARP;
  const long long first = (long long)blockIdx.x * (EACH * THREADS);
  float far[4];  // the drifts of this lane's groups
#pragma unroll
  for (int g = 0; g < 4; ++g) far[g] = drift_so_far[k + lane % LANES * 4 + g];
  unsigned active[EACH];
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const long long row = first + e * THREADS + threadIdx.x;
    const int label = row < n ? labels[row] : -1;
    const float upper = label < 0 ? NOT_A_NUMBER : uppers[row] + drift_so_far[label];
    bool stays = false;
#pragma unroll
    for (int part = 0; part < LANES; ++part) {
      const float own = __shfl_sync(EVERY_LANE, upper, part * ROWS_AT_ONCE + lane / LANES);
      bool is_nearer = false;  // than the centers of four groups
      if (own < INFINITE) {
        const float4 lower = lowers.vector<float4>((row - lane) * LANES + part * WARP + lane);
        is_nearer = own < lower.x - far[0] && own < lower.y - far[1] && own < lower.z - far[2] && own < lower.w - far[3];
      }
      const unsigned nearer = __ballot_sync(EVERY_LANE, is_nearer) >> lane % ROWS_AT_ONCE * LANES;
      if (lane / ROWS_AT_ONCE == part) stays = (nearer & EVERY_GROUP) == EVERY_GROUP;
    }
    active[e] = __ballot_sync(EVERY_LANE, row < n && !stays);
    if (lane == 0) places[e * WARPS + warp] = __popc(active[e]);
  }
  __syncthreads();  // all are counted
  if (threadIdx.x == 0) {
    int n_active = 0;
    for (int part = 0; part < EACH * WARPS; ++part) {
      const int count = places[part];
      places[part] = n_active;
      n_active += count;
    }
    const int n_skipped = int(min((long long)(EACH * THREADS), n - first)) - n_active;
    if (n_skipped) atomicAdd(control + N_SKIPPED, n_skipped);
    const int place = n_active ? atomicAdd(control + N_ACTIVE, n_active) : 0;
    for (int part = 0; part < EACH * WARPS; ++part) places[part] += place;
  }
  __syncthreads();  // all have their places
#pragma unroll
  for (int e = 0; e < EACH; ++e)
    if (active[e] >> lane & 1)
      limits.active_rows[places[e * WARPS + warp] + __popc(active[e] & ((1u << lane) - 1))] =
          int(first + e * THREADS + threadIdx.x);
}
