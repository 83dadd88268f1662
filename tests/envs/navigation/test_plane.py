"""Pictures of the plane and of grids: what lies where, in pixels."""

import numpy as np

from metarl.envs.navigation.plane import AGENT, GOAL, OTHER, Disc, render_cells, render_discs


def colored(picture, color):
    """Rows and columns of the pixels of a color."""
    return np.nonzero((picture == color).all(-1))


def test_a_disc_lies_where_its_center_says_with_y_up():
    picture = render_discs([Disc((0.5, 0.75), 0.1, GOAL)], half_width=1.0)
    assert picture.shape == (240, 240, 3)
    assert picture.dtype == np.uint8
    rows, columns = colored(picture, GOAL)
    assert (rows.mean(), columns.mean()) == (29.5, 179.5)  # a quarter of 120 from the top
    assert rows.max() - rows.min() + 1 == 24  # 2 × .1 of 2, in 240 pixels
    assert abs(len(rows) - np.pi * 12**2) < 12


def test_later_discs_cover_earlier_ones():
    picture = render_discs([Disc((0, 0), 0.2, GOAL), Disc((0, 0), 0.2, AGENT)], half_width=1.0)
    assert not len(colored(picture, GOAL)[0])
    assert len(colored(picture, AGENT)[0])


def test_a_disc_outside_the_picture_is_drawn_at_its_edge():
    picture = render_discs([Disc((9.0, -0.5), 0.1, AGENT)], half_width=1.0)
    rows, columns = colored(picture, AGENT)
    assert columns.max() == 239
    assert rows.mean() == 179.5


def test_cells_lie_where_they_should_with_y_up_and_the_agent_over_them():
    picture = render_cells(5, {(4, 0): GOAL, (0, 2): OTHER}, agent=(4, 0))
    assert picture.shape == (240, 240, 3)
    rows, columns = colored(picture, GOAL)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (193, 239, 193, 239)
    rows, columns = colored(picture, OTHER)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (97, 143, 1, 47)
    rows, columns = colored(picture, AGENT)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (204, 227, 204, 227)


def test_a_grid_that_does_not_fit_is_drawn_in_whole_pixels():
    assert render_cells(9, {}, agent=(0, 0)).shape == (234, 234, 3)
