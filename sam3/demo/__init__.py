"""The demonstration: a small world of coloured shapes, and the whole main job run on it."""
