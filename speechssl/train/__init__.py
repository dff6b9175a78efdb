"""The training loop, checkpoints and logs; serves pretraining and downstream heads alike."""
