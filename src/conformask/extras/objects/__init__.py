"""Promises about objects, such as nuclei, each shown or hidden whole: labels, the loss, scores and files."""
