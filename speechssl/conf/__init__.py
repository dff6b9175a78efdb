"""Primary Hydra configurations, one per verb, and the groups the core owns."""
