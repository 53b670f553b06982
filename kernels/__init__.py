"""What happens between the engines: NumPy says what, CUDA does the same, bit for bit."""
