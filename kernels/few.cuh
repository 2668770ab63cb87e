/* few.cuh -- what follows once a warp knows the two best of few centers for its rows: certify, relabel, resolve.
 *
 * Labels, limits, lists and counters of nearest_of_few.cu and nearest_of_few_bytes.cu, which say what they are.
 */
#pragma once
#include "screen.cuh"
#include "float64.cuh"

// Rows of all problems, and the centers and limits of one run.
struct Screened {
  In<ROW> X;
  In<float> norms;
  In<float> half_squares;
  In<float> facts;
  StoredCenters stored;
  In<float> drift_so_far;
  float* limits;
  int d;
  int k;
};
static __device__ __forceinline__ Screened screened_by(In<ROW> X, In<float> norms, const Centers& centers, int n_padded,
                                                       const StoredCenters& stored, const Limits& limits, int d, int run) {
  const int k = centers.k;
  const StoredCenters own = {stored.C + (long long)run * k * d, stored.radius, stored.underflow};
  return {X, norms, centers.half_squares + run * n_padded, centers.facts + run * FACT_WORDS, own,
          limits.drift_so_far + run * k, limits.limits + (long long)(run - problem_index()) * limits.n, d, k};
}

/* Each lane with `own` has the two best scores of a row.  The whole warp calls. */
static __device__ __forceinline__ void settle(const Best& best, bool own, int row, float rest, const Screened& screened,
                                              int exact, const Moves& moves, int* __restrict__ open_rows) {
  const int lane = lane_index(), label = min(best.index, screened.k - 1);  // only scores that are no numbers leave none
  const In<float> facts = screened.facts;
  Verdict verdict = {false, false};
  if (own) {
    const float norm = screened.norms[row], radius = score_radius(facts, norm, rest);
    verdict = verdict_of(best, radius, exact);
    screened.limits[row] = verdict.certain ? drift_limit(best, radius, norm, screened.drift_so_far[label]) : NOT_A_NUMBER;
  }
  relabel_by(verdict, row, label, moves);
  unsigned undecided = __ballot_sync(EVERY_LANE, own && !verdict.certain && !verdict.trusted);
  if (lane == 0 && undecided) atomicAdd(moves.control + N_UNDECIDED, __popc(undecided));

  // ---- resolve
  while (undecided) {
    const int i = __shfl_sync(EVERY_LANE, row, __ffs(int(undecided)) - 1);
    undecided &= undecided - 1;
    const Nearest nearest = nearest_in_float64(screened.X + (long long)i * screened.d, screened.stored, screened.half_squares,
                                               nullptr, screened.k, screened.d, facts[WHOLE] != 0.0f);
    relabel(lane == 0 && nearest.decided, i, nearest.index, moves);
    if (lane == 0 && !nearest.decided) open_rows[atomicAdd(moves.control + N_OPEN, 1)] = i;
  }
}
