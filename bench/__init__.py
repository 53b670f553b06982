"""Measure: every stage, whole clips, and whether a clip shows what was asked for."""
