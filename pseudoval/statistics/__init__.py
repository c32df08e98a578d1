"""How sure a figure is, and which configuration wins: functions of score matrices and curves.

- ``samples``, ``weighted``, ``bootstrap``: metrics on resamples of the images.
- ``intervals``: what a bootstrap says of one configuration and of differences.
- ``objectives``, ``rules``: what a study maximises, and how it chooses.
- ``regret``, ``correlation``, ``separation``, ``labelled_halves``, ``rank_aggregation``: what a
  choice costs, how far curves agree, and what choosing otherwise would give.
"""
