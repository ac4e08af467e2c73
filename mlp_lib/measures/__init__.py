"""What is read off trained weights."""
