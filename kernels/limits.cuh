/* limits.cuh -- how long labels hold: what the drift of the centers must reach before a row is looked at again. */
#pragma once
#include "common.cuh"

// Where all centers share a drift: certificates/drift.py: drift_limit.
struct Limits {
  In<float> drift_so_far;  // (k) of each center
  float* limits;           // (n) what it must reach before a row is looked at again; NaN where nothing is known
  int n;
};

// Where groups of centers have drifts of their own: certificates/drift.py: upper_limit, lower_limit.
struct GroupLimits {
  In<float> drift_so_far;  // (k + N_GROUPS) of each center, then the largest of each group
  float* uppers;           // (n) NaN where nothing is known
  float* lowers;           // (n, N_GROUPS) of rows of which something is known
  int* active_rows;        // (n) the rows that must be looked at, of which control[N_ACTIVE] count
};
