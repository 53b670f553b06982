"""Bundle → running sessions. Knows nothing of prompts."""
