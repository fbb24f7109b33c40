"""The model repository: version folders, which of them are loaded, and a watcher that finds new ones."""
