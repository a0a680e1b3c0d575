"""The recurrence on a CPU: kernels in C++, how they are built and loaded."""
