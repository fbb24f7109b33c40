"""Scores of a representation: does u hold the class and z not, and does each dimension hold one true factor."""
