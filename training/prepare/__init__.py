"""From labelled images to the folder that :mod:`training.cases` reads."""
