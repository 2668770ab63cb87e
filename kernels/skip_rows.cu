/* skip_rows.cu -- which rows must be looked at: those whose label the drift of the centers may have changed.
 *
 *   drift_so_far[label] < limits[i]:  row i keeps its label                                         (control[N_SKIPPED])
 *   else, or without a label:         listed in active_rows                                          (control[N_ACTIVE])
 *
 * labels (n) i32 IN | limits (n) f32 IN, NaN where nothing is known | drift_so_far (k) f32 IN | active_rows (n) i32 OUT, nearly
 * in order | control INOUT                                                                        all C-contiguous
 * A thread owns EACH rows, a block's threads neighbours at a time; a block takes its places in the list at once.
 * Launch grid ceil(n / (EACH THREADS)), block THREADS.   Traffic: 8n bytes read, 4 written a listed row.
 */
#include "common.cuh"
#include "control.cuh"

#define THREADS 256
#define EACH 8
#define WARPS (THREADS / WARP)

extern "C" __global__ void __launch_bounds__(THREADS)
skip_rows(const int* __restrict__ labels, const float* __restrict__ limits, const float* __restrict__ drift_so_far, int n,
          int* __restrict__ active_rows, int* control) {
  if (control[STOP]) return;
  __shared__ int places[EACH * WARPS];  // of the first active row of each warp's part; first their counts
  const int lane = lane_index(), warp = int(threadIdx.x) / WARP;
  const long long first = (long long)blockIdx.x * (EACH * THREADS);
  unsigned active[EACH];
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const long long row = first + e * THREADS + threadIdx.x;
    bool mine = row < n;
    if (mine) {
      const int label = labels[row];
      mine = !(label >= 0 && drift_so_far[label] < limits[row]);
    }
    active[e] = __ballot_sync(EVERY_LANE, mine);
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
      active_rows[places[e * WARPS + warp] + __popc(active[e] & ((1u << lane) - 1))] = int(first + e * THREADS + threadIdx.x);
}
