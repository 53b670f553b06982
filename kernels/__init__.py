"""What happens between the engines. NumPy says what each operation does; CUDA will do the same."""
