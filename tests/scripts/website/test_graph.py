"""The graph of the packages as an image."""

import re
from xml.etree import ElementTree

from page_blocks import ROOT

from metarl.scripts.publish.architecture import ORDER, package_graph, read_tree
from metarl.scripts.website.graph import graph_svg, layers, without_implied_edges

STORAGE, NN, RL, RUNS = "metarl.storage", "metarl.nn", "metarl.rl", "metarl.runs"
GRAPH = {STORAGE: set(), NN: {STORAGE}, RL: {NN, STORAGE}, RUNS: {STORAGE}}


def test_edges_that_a_path_implies_are_left_out():
    assert without_implied_edges(GRAPH) == {**GRAPH, RL: {NN}}


def test_a_package_lies_above_all_that_it_imports():
    assert [set(row) for row in layers(GRAPH)] == [{STORAGE}, {NN, RUNS}, {RL}]


def test_the_image_shows_every_package_within_its_frame():
    svg = graph_svg(package_graph(read_tree(ROOT)))
    tree = ElementTree.fromstring(svg)
    width = float(tree.attrib["width"])
    texts = [node.text for node in tree.iter("text")]
    assert sorted(f"metarl.{text}" for text in texts) == sorted({*ORDER} - {"metarl"})
    for box in tree.iter("rect"):
        left, size = float(box.attrib["x"]), float(box.attrib["width"])
        assert left >= 0
        assert left + size <= width


def test_edges_lead_down():
    svg = graph_svg({**GRAPH, "metarl": set()})
    paths = re.findall(r'<path d="M\d+ (\d+)C.* (\d+)"/>', svg.replace("/><", "/>\n<"))
    assert len(paths) == 3
    assert all(int(start) < int(end) for start, end in paths)
