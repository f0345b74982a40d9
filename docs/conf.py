"""How Sphinx builds the documentation."""

project = "anybroker"
html_title = "anybroker"
html_theme = "furo"
exclude_patterns = ["_build"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"

# Names of our own must resolve. Those of Python and of others are left as text: their index would need the network.
nitpick_ignore_regex = [("py:.*", r"(?!anybroker\.).*")]
