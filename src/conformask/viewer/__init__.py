"""The viewer: a local web application that shows images with their masks, and moves the promise."""
