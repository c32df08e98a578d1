"""The pictures of a report, as matplotlib figures; ``style`` turns them into bytes.

- ``curves``: pseudo and real AUROC over each parameter, as in Figure 6 of the LafitE paper,
- ``sheet``: the pseudo anomalies, as in Figure 4,
- ``errors``: reconstruction error without and with feature editing, as in Figure 1,
- ``features``: where normal and anomalous patches lie, as in Figure 5.
"""
