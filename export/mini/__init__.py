"""The embedded model's recipe, beginning with the procedural world it learns from.

`bench.adherence` owns the words, colours and shapes of that world; this draws and captions it.
"""
