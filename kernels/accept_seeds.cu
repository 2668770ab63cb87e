/* accept_seeds.cu -- k-means++: a candidate, or several of them, become seeds.
 *
 *   closest[i] = min over the candidates t = first .. first + count - 1 of proposed[t, i]
 *
 * proposed (n_candidates,n) f64 IN | closest (n) f64 OUT                          all C-contiguous
 * Launch grid ceil(n/256), block 256.   Traffic: 8n (count + 1) bytes.
 */
#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
accept_seeds(const double* __restrict__ proposed, int first, int count, long long n, double* __restrict__ closest) {
  const long long i = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  double smallest = proposed[first * n + i];
  for (int t = first + 1; t < first + count; ++t) smallest = fmin(smallest, proposed[t * n + i]);
  closest[i] = smallest;
}
