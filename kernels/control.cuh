/* control.cuh -- the layout of the control array: flags and counters that each kernel passes to the next kernels and the host.
 *
 * control (CONTROL_WORDS) i32 and facts (FACT_WORDS) f32, of each run, and scales (SCALE_WORDS) f64, of each problem, lie on
 * the device; gpukmeans/backends/cuda/control.py has the same names.  A launch that finds control[STOP] set returns at once, until
 * the host, which reads it every few iterations, clears it.
 */
#pragma once

enum ControlWord {
  STOP,            // a StopReason
  N_SKIPPED,       // rows that drift bounds left out
  N_UNDECIDED,     // rows that the screen did not certify, and float64 looked at
  N_UNCERTAIN,     // uncertified rows that took the best screened label (precision="fast")
  N_OPEN,          // rows that float64 did not decide either: the host's
  N_MOVED,         // rows whose label changed
  N_ACTIVE,        // rows that the bounds did not leave out, where they are listed
  N_DONE,          // iterations completed since the host began
  N_LIMIT,         // iterations that the host allows
  HAS_EQUAL,       // two centers may be equal; cleared by the host
  TICKETS,         // blocks of update_centers that have finished
  EPOCH,           // of the hash table of centers
  CONTROL_WORDS
};

enum StopReason {
  GO_ON,
  LABELS_STAYED,   // no row moved
  CENTERS_STAYED,  // the centers' shift is within the tolerance
  EMPTY_CLUSTER,   // a cluster has no weight: the host gives it a center
  EQUAL_CENTERS,   // the host excludes all but the first of them
  ROWS_LEFT_OPEN,  // the host labels them, and finishes the iteration
  ITERATIONS_DONE
};

enum FactWord {
  PER_REST,        // the radius of a row's scores is PER_REST * rest + PER_NORM * norm + CONSTANT: screen.cuh
  PER_NORM,
  CONSTANT,
  WHOLE,           // 1 if float64 distances carry no error, else 0
  FACT_WORDS
};

// Of the rows of a problem, in float64: the host has written the first two, row_facts.cu the others.
enum ScaleWord {
  HALF_SCALE,      // z = x HALF_SCALE + offset is what is rounded to halves: screen.cuh
  WEIGHT_SCALE,    // of the grid that weights are added up on
  LARGEST_WHOLE,   // the largest magnitude of the rows if every value is a whole number, else infinity
  LARGEST_ANY,     // the largest magnitude; infinity, and above it NaN, where there is one
  FINER,           // 0 if one limb holds every value (exact/sums.py: Grid), else 1
  SCALE_WORDS
};

// Of one iteration, in float64: what the host reads.
enum HistoryWord { MOVED, SKIPPED, UNDECIDED, UNCERTAIN, SHIFT, EMPTY, HISTORY_WORDS };
