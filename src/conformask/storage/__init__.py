"""Files and folders: whole or not there, owned by one process at a time, and changed as one. No torch."""
