"""The online half: a bundle in, ranked and explained answers out over HTTP."""
