"""One page on one sequence: what every unit did at every step, and where the gradient went. No torch here.

``undertow.trace(...).report(path)`` writes it; ``write`` is the same for those who have the arrays. The page
stands alone: it opens from disk, asks the network for nothing, and holds the arrays themselves. Bokeh draws.

    networks.py    a trace's layers, as one sequence went through them; what enters from the loss at each step
    follows.py     what each unit follows: the best-matching characters or inputs
    figures.py     the pictures, in Bokeh
    page.py        figures, arrays, style and script put together
    page.html, page.css   the page itself, and its scripts, which share one scope in the order of page.py:
      arrays.js           unpacks; state.js holds what is shown and where the reader is
      flow.js             goes back through time from any step, in the reader's browser
      gradient.js         where to begin and how to show it; captions.js says what it is
      maps, units, cursor, colours, controls
"""

from undertow.report.networks import Network, Sequence, Shown, network, sequence_of
from undertow.report.page import write

__all__ = ["Network", "Sequence", "Shown", "network", "sequence_of", "write"]
