"""What the stages would cost on the whole dataset, from their runs on a small part of it."""
