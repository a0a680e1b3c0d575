"""The recurrence on NVIDIA's GPUs: a kernel in CUDA C++ and how it is launched."""
