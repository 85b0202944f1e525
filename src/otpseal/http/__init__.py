"""The HTTP doors: the service's and the authority's."""
