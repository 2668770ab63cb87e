// What a kernel source includes when it is compiled for the CPU: the CUDA vocabulary, in plain C++17.
//
// Passed with `-include` in front of every kernel.  The kernel side (this folder) is compiled with the kernel;
// the run time (runtime/) is compiled once, and answers the calls declared in interface.h.
#pragma once

#define __CUDA_HOST_EMU__ 1
#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

#include "vocabulary.h"

#include "interface.h"

#include "arithmetic.h"
#include "atomics.h"
#include "half.h"
#include "rounding.h"
#include "tensor.h"
#include "warp.h"

#include "export.h"
