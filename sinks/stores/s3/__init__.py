"""S3-compatible stores: uploads that appear whole and verified, or not at all."""
