"""What the steps know and leave: frozen records, each with the file that holds it. No torch."""
