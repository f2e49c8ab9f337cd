"""From captioned images to batches: sources, captions, vocabulary, image stores."""
