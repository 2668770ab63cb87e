/* used_clusters.cu -- which clusters have a row at all, run by run.
 *
 *   bit j % 32 of used[run][j / 32] is set if labels[run][i] = j for some i
 *
 * labels (runs, n) i32 IN, 0 <= label < k | used (runs, ceil(k/32)) u32 INOUT, 0 before       both C-contiguous
 * A block marks its rows in shared memory, for CLUSTERS clusters (blockIdx.y of them before), and adds that to `used`.
 * Launch grid (any, ceil(k/CLUSTERS), runs), block 256, shared 16 KiB (static).   Traffic: labels once for each CLUSTERS.
 * Accuracy: exact, in any order.
 * Tests: python -m pytest tests/kernels/test_results.py
 */
#include "common.cuh"

#define THREADS 256
#define CLUSTERS (1 << 17)

extern "C" __global__ void __launch_bounds__(THREADS)
used_clusters(const int* __restrict__ labels, long long n, int k, unsigned* __restrict__ used) {
  __shared__ unsigned seen[CLUSTERS / 32];
  labels += (long long)blockIdx.z * n;
  used += (long long)blockIdx.z * ((k + 31) / 32);
  const int first = int(blockIdx.y) * CLUSTERS;
  const int words = (min(k - first, CLUSTERS) + 31) / 32;
  for (int w = int(threadIdx.x); w < words; w += THREADS) seen[w] = 0u;
  __syncthreads();  // nothing is seen yet
  const long long stride = (long long)gridDim.x * THREADS;
  for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < n; i += stride) {
    const int j = labels[i] - first;
    if (j >= 0 && j < 32 * words) atomicOr(seen + j / 32, 1u << (j % 32));
  }
  __syncthreads();  // all marks are made
  for (int w = int(threadIdx.x); w < words; w += THREADS)
    if (seen[w]) atomicOr(used + first / 32 + w, seen[w]);
}
