"""Plain routes for pictures, so that browsers keep them and they do not travel through the websocket."""
