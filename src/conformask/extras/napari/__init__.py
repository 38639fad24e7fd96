"""The napari plugin: a widget that masks image layers, and readers of runs and folders of masks."""
