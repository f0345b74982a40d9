"""How Sphinx builds the documentation."""

project = "anybroker"
html_title = "anybroker"
html_theme = "furo"
exclude_patterns = ["_build"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"

nitpick_ignore_regex = [
    ("py:.*", r"(?!anybroker\.).*"),  # names of Python and of others stay text: their index would need the network
    ("py:.*", r"anybroker\.[\w.]+\.[A-Z]\d?"),  # type variables
]
suppress_warnings = ["ref.python"]  # a bare Clock is either of two: what it links to, autodoc cannot know
