"""Training: the state, the step, how it is spread over devices, and what survives a crash."""
