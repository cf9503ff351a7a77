"""Two plain HTTP servers of a user's own, behind a router of the user's own: what the remote provider is held to."""
