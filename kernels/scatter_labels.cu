/* scatter_labels.cu -- the host's word on the rows that it decided.
 *
 *   labels[rows[e]] = decided[e]                     for e < count
 *
 * rows (count) i32 IN, all different | decided (count) i32 IN | labels (n) i32 INOUT
 * Launch grid ceil(count/256), block 256.   Traffic: 12 count bytes.
 */
#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
scatter_labels(const int* __restrict__ rows, const int* __restrict__ decided, long long count, int* __restrict__ labels) {
  const long long e = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (e < count) labels[rows[e]] = decided[e];
}
