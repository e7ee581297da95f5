"""Foreign data by the hundred thousand: what arrives may be anything, what lands may not."""
