/* resolve.cu -- the rows that the screen left open: float64 distances, and which rows these decide.
 *
 *   labels[i] = argmin_j |x_i - c_j|^2 in float64, of the row's candidates, or of every living center   (float64.cuh)
 *   not decided: listed in open_rows for the host                                                   (control[N_OPEN])
 *   Rows whose label changes are listed in moved_rows and moved_from                                (control[N_MOVED])
 *
 * X (n,d) ROW IN | C (k,d) CENTER IN | half_squares (k) f32 IN, -infinity for dead centers | facts IN | undecided_rows (n)
 * i32 IN: control[N_UNDECIDED] of them | candidates (n_slot_rows, SLOTS) i32, candidate_counts (n_slot_rows) i32 IN:
 * candidates.cu; of other rows, of more than SLOTS candidates and of none, every living center is one | labels (n) i32 INOUT |
 * moved_rows, moved_from, open_rows (n) i32 OUT | control INOUT                                   all C-contiguous
 * A warp owns an undecided row and puts its candidates in order; grid-stride over a count that is read on the device, so the
 * host need not wait for it.
 * Launch grid any, block 128.   Traffic: d row elements an undecided row, and d center elements a candidate from the
 * second-level cache.   Work: 3 d operations in float64 a candidate.
 * Tests: python -m pytest tests/kernels/test_nearest_of_many.py
 */
#include "screen.cuh"
#include "float64.cuh"

#define THREADS 128

static_assert(SLOTS <= WARP, "each lane of a warp puts one candidate in order");

extern "C" __global__ void __launch_bounds__(THREADS, 8)
resolve(const ROW* __restrict__ X, const CENTER* __restrict__ C, const float* __restrict__ half_squares,
        const float* __restrict__ facts, const int* __restrict__ undecided_rows, const int* __restrict__ candidates,
        const int* __restrict__ candidate_counts, int n_slot_rows, int k, int d, double radius, double underflow,
        int* __restrict__ labels, int* __restrict__ moved_rows, int* __restrict__ moved_from, int* __restrict__ open_rows,
        int* control) {
  if (control[STOP]) return;
  __shared__ int sorted[THREADS / WARP * SLOTS];
  const int lane = lane_index(), n_undecided = control[N_UNDECIDED];
  int* const own = sorted + int(threadIdx.x) / WARP * SLOTS;
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long e = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; e < n_undecided; e += stride) {
    const int i = undecided_rows[e], count = e < n_slot_rows ? candidate_counts[e] : 0;
    const bool few = count > 0 && count <= SLOTS;
    if (few) {
      const int candidate = lane < count ? candidates[e * SLOTS + lane] : 0x7fffffff;
      int rank = 0;
#pragma unroll
      for (int other = 0; other < SLOTS; ++other) rank += __shfl_sync(EVERY_LANE, candidate, other) < candidate;
      if (lane < count) own[rank] = candidate;
      __syncwarp();
    }
    const Nearest nearest = nearest_in_float64(X + (long long)i * d, C, half_squares, few ? own : nullptr, few ? count : k, d,
                                               radius, underflow, facts[WHOLE] != 0.0f);
    relabel(lane == 0 && nearest.decided, i, nearest.index, Moves{labels, moved_rows, moved_from, control});
    if (lane == 0 && !nearest.decided) open_rows[atomicAdd(control + N_OPEN, 1)] = i;
    __syncwarp();  // the candidates have been read
  }
}
