"""What captions are worth, and the page that shows it."""
