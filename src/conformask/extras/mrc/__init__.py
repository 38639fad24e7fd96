"""MRC files of electron microscopy."""
