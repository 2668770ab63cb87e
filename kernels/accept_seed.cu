/* accept_seed.cu -- k-means++: a candidate becomes a seed.
 *
 *   closest[i] = proposed[candidate, i]
 *
 * proposed (n_candidates,n) f64 IN | closest (n) f64 OUT                          all C-contiguous
 * Launch grid ceil(n/256), block 256.   Traffic: 16n bytes.
 */
#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
accept_seed(const double* __restrict__ proposed, int candidate, long long n, double* __restrict__ closest) {
  const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i < n) closest[i] = proposed[candidate * n + i];
}
