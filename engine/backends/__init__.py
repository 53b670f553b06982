"""One file a backend, found by its name; each has `open_session(bundle, name, options)`.

One that can add LoRAs to the weights has `check_loras(bundle, loras)` too; others refuse them.
"""
