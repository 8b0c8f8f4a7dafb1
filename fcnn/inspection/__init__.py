"""Looking into networks: derivatives checked, training drawn."""
