"""Google Cloud Storage: parts are objects beside the archive, and one request composes it of them.

An upload could be a resumable session of the JSON API, or a multipart upload of the XML API. A
session takes bytes in their order alone, by one sender, and none again: parts would not be sent at
the same time, nor replaced. A multipart upload takes no conditions: it would replace whatever is
there. So a part is an object of its own, made by one request that Google checks by its MD5, and the
archive is composed of up to 32 of them, or of what was composed of them, on a condition. Google
keeps no MD5 of what is composed; its CRC32C must be the one that its parts make together.
"""
