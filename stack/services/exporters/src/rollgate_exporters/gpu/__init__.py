"""What NVML tells of GPUs, as metrics."""
