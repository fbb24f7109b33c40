"""What visitors of the page Label share: the folder, its labels, the order of the images, and processes."""
