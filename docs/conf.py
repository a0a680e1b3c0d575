"""The site, built by `make docs`: Sphinx, MyST, and notebooks that run meanwhile."""

import inspect
import pathlib
import re

import seqjax

project, author = 'seqjax', 'The seqjax authors'
copyright = author  # Sphinx's own name for it
version = release = seqjax.__version__
extensions = ['sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'myst_nb']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'seqjax'

nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
myst_heading_anchors = 3

autodoc_typehints = 'none'  # shapes are in the docstrings, and types where they help
default_role = 'code'
suppress_warnings = ['ref.python']  # a `Returns` that begins with names of weights
napoleon_numpy_docstring = False

_ROOT = pathlib.Path(__file__).parent.parent


def setup(app):
  """What the pages and docstrings are written for besides: a reader of the source."""
  app.connect('source-read', _name_files_of_the_checkout)
  app.connect('autodoc-process-docstring', _spell_for_napoleon, priority=400)
  app.connect('autodoc-process-signature', _show_fields)


def _name_files_of_the_checkout(app, page, source):
  """Links that lead out of docs/ become names of files, which must be there."""

  def named(match):
    words, path = match[1], (pathlib.Path(app.srcdir, page).parent / match[2]).resolve()
    if not path.exists():
      raise FileNotFoundError(f'{page}: {match[2]}')
    return f'{words} (`{path.relative_to(_ROOT)}`)'

  links = r'\[([^\]]+)\]\(((?:\.\./)+(?:launch|benchmarks)/[^)]+)\)'
  source[0] = re.sub(links, named, source[0])


def _spell_for_napoleon(app, what, name, thing, options, lines):
  """Headings with an addition, and signs that mean something else to it."""
  for n, line in enumerate(lines):
    if line.lstrip().startswith(('>>>', '...')):
      continue
    line = re.sub(r'^Attributes,? .*:$', 'Attributes:', line).replace('|', r'\|')
    lines[n] = re.sub(r'(?<![\w*])\*(?=\w)', r'\*', line)  # *axes: no emphasis


def _show_fields(app, what, name, thing, options, signature, returns):
  """A layer's fields, which its `__new__` takes as *args and **kwargs."""
  if signature != '(*args, **kwargs)':
    return signature, returns
  shown = []
  for field in list(inspect.signature(thing.__init__).parameters.values())[1:]:
    default = getattr(field.default, '__name__', repr(field.default))
    if field.name not in ('parent', 'name'):
      has_none = field.default is inspect.Parameter.empty
      shown.append(field.name if has_none else f'{field.name}={default}')
  return f'({", ".join(shown)})', returns
