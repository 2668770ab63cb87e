/* score_facts.cuh -- what the radius of a row's scores is made of, from the norms of all centers.
 *
 *   radius_i = facts[PER_REST] rest_i + facts[PER_NORM] norm_i + facts[CONSTANT]   (certificates/halves.py: half_score_radius)
 *   with FIXED rests of rows are 0 and not looked at   (certificates/fixed_point.py: fixed_score_radius)
 *   facts[WHOLE] = 1 if float64 distances carry no error                     (certificates/scores.py: exact_in_float64)
 *
 * measures (N_MEASURES,k) f64 IN: those of every block | accumulation: the factor of |c|^2 / 2 in the radius | facts OUT
 * Called by all threads of one block, after the measures of all blocks are visible.
 */
#pragma once
#include "control.cuh"
#include "of_block.cuh"

// Numbers that each block measures of its center.
enum Measure { WEIGHT, SHIFT_SQUARE, NORM, REST, LARGEST, N_MEASURES };

// What the last block leaves for the next assignment.
struct NextFacts {
  double* measures;     // (N_MEASURES,k) of every block
  float* facts;         // (FACT_WORDS)
  float* drift_so_far;  // (k + n_groups) of each center, then the largest of each group
  double accumulation;  // the factor of |c|^2 / 2 in the radius of a score
  int n_groups;         // 0, or 256 is a multiple of twice as many
};

// A float32 that stays above a float64 through the arithmetic that is done with it.
static __device__ __forceinline__ float above(double value) { return double_to_float(__dmul_rn(value, 1.0 + 0x1p-10)); }

static __device__ __forceinline__ void write_facts(const double* measures, int k, int d, double largest_of_rows,
                                                   double accumulation, double* part, float* __restrict__ facts) {
  const int tid = int(threadIdx.x);
  double norm = 0.0, rest = 0.0, largest = largest_of_rows;
  for (int c = tid; c < k; c += THREADS) {
    norm = fmax(norm, __ldcg(measures + NORM * k + c));
    rest = fmax(rest, __ldcg(measures + REST * k + c));
    largest = fmax(largest, __ldcg(measures + LARGEST * k + c));
  }
  norm = of_block(norm, part, Larger());
  rest = of_block(rest, part, Larger());
  largest = of_block(largest, part, Larger());
  if (tid == 0) {
    double largest_norm = 0x1p60, least = 0x1p-100;  // beyond the former nothing is certified
#if FIXED
    largest_norm = 0x1p19;
    least = FIXED_UNIT;
    const double subnormal = 0.0;
    const double per_square = accumulation + 0x1p-36;
#elif SPARSE
    const double subnormal = 0.0;  // nothing is rounded to halves, and half squares not to float32
    const double per_square = accumulation;
#else
    const double subnormal = accumulation * 0x1p-14;
    const double per_square = accumulation + 0x1p-24;
#endif
    const double both = __dadd_rn(__dmul_rn(accumulation, norm), __dadd_rn(rest, subnormal));
    const bool sound = norm < largest_norm;
    facts[PER_REST] = sound ? above(norm) : INFINITE;
    facts[PER_NORM] = sound ? above(both) : INFINITE;
    const double of_square = fma(__dmul_rn(per_square, 0.5 * norm), norm, least);
    facts[CONSTANT] = sound ? above(fma(subnormal, norm, of_square)) : INFINITE;
    // certificates/scores.py: exact_in_float64
    facts[WHOLE] = __dmul_rn(__dmul_rn(4.0 * largest, largest), double(d)) <= 0x1p53 ? 1.0f : 0.0f;
  }
}
