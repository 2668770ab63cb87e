/* equal_centers.cuh -- whether two centers may be equal: each enters a hash of its values into a table.
 *
 *   hash(j) = sum_f hash_of(C[j, f], f)  modulo 2^64; equal centers have equal hashes, and others almost never
 *
 * table (n_slots, a power of two) u64 INOUT: the upper 48 bits of a hash and an epoch, 0 in slots that were never used.  A word
 * of another epoch may be overwritten, so the table needs no clearing between iterations.  An iteration is an epoch.
 */
#pragma once
#include "common.cuh"

struct HashTable {
  unsigned long long* words;  // (n_slots)
  int n_slots;                // a power of two
};

// A hash of a value and its column; 0.0 and -0.0 have the same.
static __device__ __forceinline__ unsigned long long hash_of(double value, int f) {
  unsigned long long bits = (unsigned long long)__double_as_longlong(value + 0.0) + 0x9e3779b97f4a7c15ull * unsigned(f + 1);
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9ull;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111ebull;
  return bits ^ bits >> 31;
}

/* Enters a hash of this epoch; returns whether the same one was there.  Words of other epochs are overwritten. */
static __device__ bool was_entered(unsigned long long* table, int n_slots, unsigned long long hash, int epoch) {
  const unsigned long long word = (hash & ~0xffffull) | unsigned(epoch & 0xffff);
  int slot = int(hash >> 20 & unsigned(n_slots - 1));
  while (true) {
    unsigned long long seen = atomicCAS(table + slot, 0ull, word);
    if (seen == 0) return false;
    while ((seen & 0xffffull) != (word & 0xffffull)) {
      const unsigned long long before = atomicCAS(table + slot, seen, word);
      if (before == seen) return false;
      seen = before;
    }
    if (seen == word) return true;
    slot = (slot + 1) & (n_slots - 1);
  }
}
