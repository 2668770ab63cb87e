/* sums.cuh -- the exact sums and weights of clusters, and the grid on which values lie (exact/sums.py: Grid). */
#pragma once
#include "common.cuh"

// Of one run, or of several one after another.
struct Sums {
  long long* sums;     // (n_limbs,k,d)
  long long* weights;  // (n_limbs,k)
  int k;
  int d;
};

struct SumGrid {
  In<double> scale;         // (d) units of a column's first limb in 1
  In<double> scales;        // (SCALE_WORDS), of which WEIGHT_SCALE
  double limb_size;         // units of the second limb in one of the first
  double weight_limb_size;  // the same of the weights
};
