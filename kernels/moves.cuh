/* moves.cuh -- the rows whose label an assignment changes: new labels, and the lists that the sums follow. */
#pragma once
#include "common.cuh"
#include "control.cuh"

// Of one run, or of several one after another.
struct Moves {
  int* labels;   // (n) of each row, -1 before the first assignment
  int* rows;     // (n) the rows whose label changed, of which control[N_MOVED] count
  int* old;      // (n) their old labels
  int* control;  // (CONTROL_WORDS)
};

// Those of one of several runs; lists number the rows through the problems, n rows each, whose labels follow one another.
static __device__ __forceinline__ Moves moves_of(const Moves& moves, int run, int problem, int n) {
  return {moves.labels + (long long)(run - problem) * n, moves.rows + (long long)run * n, moves.old + (long long)run * n,
          moves.control + run * CONTROL_WORDS};
}

/* A position in a list for every lane of the warp with `wanted`; the whole warp calls.  `counter` counts the positions. */
static __device__ __forceinline__ int place_in_list(int* counter, bool wanted) {
  const unsigned lanes = __ballot_sync(EVERY_LANE, wanted);
  const int lane = lane_index();
  int place = 0;
  if (lanes && lane == __ffs(int(lanes)) - 1) place = atomicAdd(counter, __popc(lanes));
  place = __shfl_sync(EVERY_LANE, place, lanes ? __ffs(int(lanes)) - 1 : 0);
  return place + __popc(lanes & ((1u << lane) - 1));
}

/* A new label for the row of every lane with `known`: the row is listed as moved if the label is not the old one.  The
 * whole warp calls. */
static __device__ __forceinline__ void relabel(bool known, int row, int label, const Moves& moves) {
  const int old = known ? moves.labels[row] : label;
  const bool is_new = old != label;
  const int place = place_in_list(moves.control + N_MOVED, is_new);
  if (!is_new) return;
  moves.rows[place] = row;
  moves.old[place] = old;
  moves.labels[row] = label;
}
