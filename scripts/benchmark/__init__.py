"""Speed measurements of the toolkit and of comparable libraries."""
