"""Navigation tasks: a point in the plane, and grids."""
