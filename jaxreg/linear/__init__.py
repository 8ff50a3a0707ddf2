"""Models that are linear in their weights, solved to a certificate."""
