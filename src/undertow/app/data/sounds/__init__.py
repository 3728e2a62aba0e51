"""Two recordings of the same sound: before a device and after it."""
