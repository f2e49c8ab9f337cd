"""From captioned pictures to batches: sources, captions, vocabulary, image stores."""
