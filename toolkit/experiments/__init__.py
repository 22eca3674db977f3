"""What is measured, in which order, how often: sensors in, tables out. Nothing is analysed here."""
