"""Small helpers shared by the client, training and serving."""
