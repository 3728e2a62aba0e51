"""A page on one sequence: what every unit did at every step, and where the gradient went. Needs no torch.

``undertow.trace(...).report(path)`` writes the page; ``write`` does so for programs that have the arrays. The
page is one file that holds the arrays. It opens from disk without a network connection. Bokeh draws it.

    networks.py    a trace's layers for one sequence, and the loss's gradient that enters at each step
    follows.py     the characters or inputs that each unit follows
    inputs.py      the inputs as numbers and categories
    figures.py     the figures, in Bokeh
    page.py        puts figures, arrays, style and scripts together
    page.html, page.css   the page; its scripts share one scope, in the order of page.py:
      arrays.js           unpacks the arrays
      flow.js             computes the gradient back from a step, in the reader's browser
      state.js            what the page shows and where the reader is
      gradient.js         where the gradient starts and how it is drawn; captions.js describes it
      maps, units, cursor, colours, controls
"""

from undertow.report.networks import Network, Sequence, Shown, network, sequence_of
from undertow.report.page import write

__all__ = ["Network", "Sequence", "Shown", "network", "sequence_of", "write"]
