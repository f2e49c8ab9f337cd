"""Writing captions where other programs read them: sidecar files, tables, and the images' own metadata."""
