"""LafitE: latent diffusion with feature editing for unsupervised image anomaly detection.

Features of a pretrained backbone on one grid, a memory bank of normal patch features, feature
editing, a U-Net diffusion model over feature maps, and the anomaly maps that come out of it for
a whole grid of (t, K) at once. Section numbers in this package are those of the LafitE paper
(Yin et al. 2023).
"""
