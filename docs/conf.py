"""How Sphinx builds the documentation."""

import anybroker.app
import anybroker.definition
import anybroker.handle
import anybroker.sending

# autodoc evaluates annotations, also those whose names a module imports for the type checker alone
anybroker.definition.Hook = anybroker.sending.Hook
anybroker.sending.App = anybroker.handle.App = anybroker.app.App
anybroker.sending.Handle = anybroker.handle.Handle
anybroker.handle.Definition = anybroker.definition.Definition

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
    ("py:.*", r"anybroker\.[\w.]+\.[A-Z]\w?(_co)?"),  # type variables
    ("py:.*", r"anybroker\.arguments\.\w+"),  # what a definition holds for core alone
]
suppress_warnings = ["ref.python"]  # a bare Clock is either of two: what it links to, autodoc cannot know
