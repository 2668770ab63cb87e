/* settle_rows.cu -- the labels of rows that the host decided.
 *
 *   labels[rows[e]] = decided[e]                     for e < count; listed as moved where it was another (control[N_MOVED])
 *
 * rows (count) i32 IN, all different | decided (count) i32 IN | moves: labels INOUT, lists OUT, control INOUT: moves.cuh
 * Launch grid ceil(count/256), block 256.   Traffic: 16 count bytes.
 * Tests: python -m pytest tests/kernels/test_row_halves.py
 */
#include "moves.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
settle_rows(const int* __restrict__ rows, const int* __restrict__ decided, int count, const __grid_constant__ Moves moves) {
  const long long e = (long long)blockIdx.x * THREADS + threadIdx.x;
  const bool known = e < count;
  relabel(known, known ? rows[e] : 0, known ? decided[e] : 0, moves);
}
