"""Images of the plane and of grids: positions in pixels."""

import numpy as np

from metarl.envs.navigation.plane import AGENT, GOAL, OTHER, Disc, render_cells, render_discs


def colored(image, color):
    """Rows and columns of the pixels of a color."""
    return np.nonzero((image == color).all(-1))


def test_a_disc_is_rendered_at_its_center_with_y_up():
    image = render_discs([Disc((0.5, 0.75), 0.1, GOAL)], half_width=1.0)
    assert image.shape == (240, 240, 3)
    assert image.dtype == np.uint8
    rows, columns = colored(image, GOAL)
    assert (rows.mean(), columns.mean()) == (29.5, 179.5)  # a quarter of 120 from the top
    assert rows.max() - rows.min() + 1 == 24  # 2 × .1 of 2, in 240 pixels
    assert abs(len(rows) - np.pi * 12**2) < 12


def test_later_discs_cover_earlier_ones():
    image = render_discs([Disc((0, 0), 0.2, GOAL), Disc((0, 0), 0.2, AGENT)], half_width=1.0)
    assert not len(colored(image, GOAL)[0])
    assert len(colored(image, AGENT)[0])


def test_a_disc_outside_the_image_is_rendered_at_its_edge():
    image = render_discs([Disc((9.0, -0.5), 0.1, AGENT)], half_width=1.0)
    rows, columns = colored(image, AGENT)
    assert columns.max() == 239
    assert rows.mean() == 179.5


def test_cells_are_rendered_at_their_places_with_y_up_and_the_agent_on_top():
    image = render_cells(5, {(4, 0): GOAL, (0, 2): OTHER}, agent=(4, 0))
    assert image.shape == (240, 240, 3)
    rows, columns = colored(image, GOAL)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (193, 239, 193, 239)
    rows, columns = colored(image, OTHER)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (97, 143, 1, 47)
    rows, columns = colored(image, AGENT)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (204, 227, 204, 227)


def test_a_grid_that_does_not_fit_is_rendered_in_whole_pixels():
    assert render_cells(9, {}, agent=(0, 0)).shape == (234, 234, 3)
