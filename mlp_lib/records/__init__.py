"""What a training is (`Run`), what came of it (`Record`), and a folder of them (`Store`)."""
