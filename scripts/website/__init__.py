"""Generation of the documentation site's pages and images from the code and from results/."""
