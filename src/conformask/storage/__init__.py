"""Files and folders: written wholly or not at all, by one process at a time, changed as one. No torch."""
