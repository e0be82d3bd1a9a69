"""Constraints in trainings that are written with other libraries; each is imported by its own module alone."""
