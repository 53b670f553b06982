"""One file a backend, found by its name; each has `open_session(bundle, name, options)`."""
