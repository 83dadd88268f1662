"""A point in the plane, a walker in a grid."""
