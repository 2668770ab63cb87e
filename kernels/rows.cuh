/* rows.cuh -- rows as kernels take them, dense and in CSR; those of several problems one after another. */
#pragma once
#include "common.cuh"

struct Rows {
  In<ROW> X;  // (n,d)
  long long n;
  int d;
};

struct SparseRows {
  In<long long> indptr;  // (n+1) the first entry of each row, then that behind the last
  In<int> indices;       // (nnz) columns of the entries, rising in each row
  In<ROW> data;          // (nnz)
};
