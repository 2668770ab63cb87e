"""One page about a clustering: what it shows (Python) and how it is shown (plain HTML, CSS and JavaScript)."""
