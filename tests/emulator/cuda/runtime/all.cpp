// The run time as one unit, so that its parts' calls in each other are inlined.
#include "detector.cpp"
#include "launch.cpp"
#include "memory.cpp"
#include "sanitizers.cpp"
#include "scheduler.cpp"
