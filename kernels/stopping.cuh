/* stopping.cuh -- the record of an iteration, and whether the run goes on.
 *
 * history (HISTORY_WORDS) f64 OUT at control[N_DONE] | control INOUT: counters are cleared, STOP gets a StopReason
 * Called by one thread, after every other block has finished.
 */
#pragma once
#include "drift.cuh"

// Of one run, or of several one after another.
struct Record {
  In<double> tolerance;  // (1)
  double* history;       // (n_history, HISTORY_WORDS)
  int n_history;
  int* control;          // (CONTROL_WORDS)
};

static __device__ __forceinline__ void record_and_stop(const Shifts& shifts, double tolerance, double* __restrict__ history,
                                             int* control) {
  const double total = shifts.total, n_empty = shifts.n_empty;
  const int done = control[N_DONE];
  double* const record = history + (long long)done * HISTORY_WORDS;
  record[MOVED] = control[N_MOVED];
  record[SKIPPED] = control[N_SKIPPED];
  record[UNDECIDED] = control[N_UNDECIDED];
  record[UNCERTAIN] = control[N_UNCERTAIN];
  record[SHIFT] = total;
  record[EMPTY] = n_empty;
  int reason = GO_ON;
  if (done + 1 >= control[N_LIMIT]) reason = ITERATIONS_DONE;
  if (__ldcg(control + HAS_EQUAL)) reason = EQUAL_CENTERS;
  if (total <= tolerance) reason = CENTERS_STAYED;
  if (control[N_MOVED] == 0) reason = LABELS_STAYED;
  if (n_empty > 0.0) reason = EMPTY_CLUSTER;
  control[N_DONE] = done + 1;
  control[N_SKIPPED] = control[N_UNDECIDED] = control[N_UNCERTAIN] = control[N_MOVED] = control[N_ACTIVE] = 0;
  control[STOP] = reason;
}
