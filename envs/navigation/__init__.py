"""Navigation tasks in the plane and on grids."""
