"""OpenID Connect: the site's own identity provider, its keys, and signing in there with a code."""
