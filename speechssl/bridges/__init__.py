"""Doors from other toolkits to our encoders: s3prl's runner, Hugging Face, X-ARES and MTEB."""
